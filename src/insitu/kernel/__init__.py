"""The kernel's doors, one module per door, thin and without policy."""
