"""Address to function, file and line; address spaces; unwinding."""
