"""Kernels built from a distribution's source."""
