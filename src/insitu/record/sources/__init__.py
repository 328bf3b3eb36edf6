"""What can be recorded from, a file for each: a source moves bytes from the kernel to files, and nothing else."""
