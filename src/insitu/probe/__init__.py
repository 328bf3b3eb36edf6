"""The probe language: bpftrace's dialect, compiled here to eBPF, loaded, attached, drained and printed."""
