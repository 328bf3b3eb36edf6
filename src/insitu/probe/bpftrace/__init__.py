"""The front end for bpftrace's language: text to syntax tree."""
