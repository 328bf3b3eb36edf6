"""What a process holds on glibc's heap, what keeps it alive, and what is lost."""
