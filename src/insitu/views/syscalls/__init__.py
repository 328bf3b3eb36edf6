"""System calls as text: strace's lines, its summary, and JSON."""
