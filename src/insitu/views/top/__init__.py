"""`insitu top` on a terminal, in plain text, as JSON and in a browser."""
