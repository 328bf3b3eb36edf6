"""Kernels to boot: where they are, what belongs to them, how they are fetched."""
