"""The threads of a process: state, where each waits, CPU, policy and priority, affinity, signals; none is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs

__all__ = ["ThreadFacts", "threads_of"]

# include/uapi/linux/sched.h
_POLICIES: Final = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}


class ThreadFacts(NamedTuple):
    """A thread at that moment."""

    tid: int
    name: str
    state: str
    """A letter, as in ps(1)."""
    wait_channel: str
    """The kernel function that it waits in; "" if it does not wait, or the kernel does not say."""
    cpu: int
    """The last one, if it does not run."""
    policy: str
    priority: int
    """Of real-time policies, 1 to 99; 0 of others."""
    nice: int
    affinity: Sequence[int]
    """The CPUs that it may run on; those that are not online are among them."""
    cpu_ticks: int
    """CPU time, in clock ticks (sysconf(_SC_CLK_TCK))."""
    pending: int
    blocked: int
    """Signals, as masks: bit 0 is signal 1."""


def threads_of(pid: int) -> list[ThreadFacts]:
    """The threads of a process, by their ids. Raises InsituError if there is none."""
    try:
        tids = sorted(procfs.threads(pid))
    except ProcessLookupError:
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    return [found for tid in tids if (found := _thread(pid, tid)) is not None]


def _thread(pid: int, tid: int) -> ThreadFacts | None:
    """A thread; None if it has ended."""
    directory = f"/proc/{pid}/task/{tid}"
    try:
        # The name, in parentheses, may hold anything. Fields of proc_pid_stat(5) from the third on.
        with open(f"{directory}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b") ")[2].split()
        with open(f"{directory}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
        name = procfs.comm(tid).decode(errors="replace")
        channel = procfs.text(f"{directory}/wchan") or ""
        return ThreadFacts(
            tid,
            name,
            fields[0].decode(),
            "" if channel == "0" else channel,
            int(fields[36]),
            _POLICIES.get(int(fields[38]), fields[38].decode()),
            int(fields[37]),
            int(fields[16]),
            procfs.cpu_list(status.get("Cpus_allowed_list", "")),
            int(fields[11]) + int(fields[12]),
            int(status.get("SigPnd", "0"), 16),
            int(status.get("SigBlk", "0"), 16),
        )
    except (OSError, IndexError):
        return None
