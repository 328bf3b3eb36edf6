"""The probe language: from text to running eBPF."""
