"""Views of function calls: lines of calls, a table of functions, the slowest call, what changed between two runs."""
