"""Recorders: a source in, a session out."""
