"""Counts of events: what they mean, as text, CSV and JSON."""
