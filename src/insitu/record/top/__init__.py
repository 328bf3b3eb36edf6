"""What `insitu top` shows: the machine and its processes, a tick at a time, and the last minutes of both."""
