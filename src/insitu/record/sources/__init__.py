"""Sources of records, a file for each: a source copies bytes from the kernel to files, and nothing else."""
