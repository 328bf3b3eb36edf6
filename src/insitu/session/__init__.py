"""The recording: its tables, how they are written, read and asked."""
