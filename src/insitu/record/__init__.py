"""Recorders: from sources to a session."""
