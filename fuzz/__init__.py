"""Fuzzing of what reads data from elsewhere: see docs/fuzzing.md."""
