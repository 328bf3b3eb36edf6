"""Kernels built from the distribution's source package."""
