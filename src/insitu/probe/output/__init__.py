"""What a run prints: text as bpftrace prints it, or JSON."""
