"""The threads that a generated program is about: the map ``@target``, by their ids, which its source fills.

So the program's text is the same for all targets, and the cache of compiled programs has one entry for it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FOLLOWED_THREADS"]

# A thread that calls exec takes over the id of its process's first thread, which exits before.
FOLLOWED_THREADS: Final = """let @target = hash(65536);
tracepoint:sched:sched_process_fork /@target[tid]/ { @target[(uint32)args.child_pid] = (uint64)1; }
tracepoint:sched:sched_process_exec /@target[(uint32)args.old_pid]/ { @target[tid] = (uint64)1; }
tracepoint:sched:sched_process_exit /@target[tid]/ { delete(@target[tid]); }
"""
"""Follows threads and processes that the threads in ``@target`` start. It begins a program, after its config."""
