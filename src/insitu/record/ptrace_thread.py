"""What the ptrace engine knows of a traced thread."""

from __future__ import annotations

from insitu.syscalls.call import Enter
from insitu.syscalls.injection import Injection

__all__ = ["Thread"]


class Thread:
    """A tracee."""

    __slots__ = ("enter", "hidden", "in_call", "injection", "invocations", "pid", "previous", "tid")

    def __init__(self, pid: int, tid: int) -> None:
        self.pid = pid
        self.tid = tid
        self.enter: Enter | None = None
        """The recorded call that it is in."""
        self.in_call = False
        """With a seccomp filter: whether its next stop is the exit of a call."""
        self.hidden = False
        """Whether it is still insitu's child on its way to exec."""
        self.previous: tuple[str, int, tuple[int, ...]] | None = None
        """The call before, which restart_syscall(2) resumes."""
        self.injection: Injection | None = None
        """What fault injection does to the call that it is in."""
        self.invocations: dict[tuple[str, int], int] = {}
        """Of calls with injections: how often it has made them."""
