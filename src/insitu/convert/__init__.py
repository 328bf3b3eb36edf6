"""Bytes to tables: what kernels and other tools recorded, decoded, unwound and symbolized."""
