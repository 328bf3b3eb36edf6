"""Cost per event of ready programs beside bpftrace's tools of the same purpose, in a lab guest.

Nanoseconds in BPF programs, by the kernel's own count (BPF_STATS_RUN_TIME), for each open, connection, switch or
request of a load; what a kprobe, tracepoint or system call costs besides is not in it. The tools of a load run at the
same time and so see the same events, also those of the rest of the guest. An emulated machine takes long to start
either tool: ours are forked from a process that has everything loaded.

Of several programs at an event, the first one fills the caches and the TLB for the others, which costs more than the
program itself where these are emulated. So ours is attached both before and after bpftrace's, and counts where it was
not the first.

bpftrace's biolatency, biosnoop and tcpdrop cannot attach to this kernel. Programs that are not named here have no
peer there.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench._guests import mount_tracing, pass_on
from bench._program_loads import LOADS, set_up
from insitu.kernel.bpf import enable_stats, open_id, program_info
from insitu.kernel.bpf_abi import Command
from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch

__all__ = ["main"]

_KERNEL = "6.12"
_REPEATS = 3
_CPUS = 2
_WAITS = 60  # of two seconds
# What keeps bpftrace's tools from running here: a header that it cannot read (for one constant), and where glibc has
# its threads since 2.34.
_MENDED = {"#include <linux/sched.h>": "#define TASK_RUNNING 0", "uprobe:libpthread:": "uprobe:libc:"}
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Loads what all of ours use, to be inherited: types, LLVM, every part of the command.
_FIRST = """
kprobe:vfs_read /pid == 0/ { @[((struct sock *)arg0)->sk_ack_backlog] = count(); printf("%s", str(arg1)); }
BEGIN { @h = hist(1); exit(); }
"""


class Pair(NamedTuple):
    """Words of ours, bpftrace's tool (none: ""), and what an event is (a key of LOADS)."""

    ours: tuple[str, ...]
    peer: str
    event: str


_PAIRS = {
    pair.ours[0]: pair
    for pair in (
        Pair(("capable",), "capable", "check"),
        Pair(("execs",), "execsnoop", "exec"),
        Pair(("forks",), "threadsnoop", "thread"),
        Pair(("signals",), "killsnoop", "signal"),
        Pair(("syscalls",), "syscount", "system call"),
        Pair(("runqlat",), "runqlat", "switch"),
        Pair(("runqlen",), "runqlen", "sample"),
        Pair(("dcstat",), "dcsnoop", "name looked up"),
        Pair(("fileslow", "0", "xfs"), "xfsdist", "read or write"),
        Pair(("opens",), "opensnoop", "open"),
        Pair(("writeback",), "writeback", "pass of a flusher"),
        Pair(("biolatency",), "", "request"),
        Pair(("biosnoop",), "", "request"),
        Pair(("bitesize",), "bitesize", "request"),
        Pair(("gethostlatency",), "gethostlatency", "host name"),
        Pair(("tcpaccept",), "tcpaccept", "connection"),
        Pair(("tcpconnect",), "tcpconnect", "connection"),
        Pair(("tcpdrop",), "", "packet sent again"),
        Pair(("tcplife",), "tcplife", "connection"),
        Pair(("tcpretrans",), "tcpretrans", "packet sent again"),
        Pair(("tcpsynbl",), "tcpsynbl", "connection"),
        Pair(("oomkills",), "oomkill", "kill"),
    )
}


def main(*names: str) -> None:
    """A line for each program, or for those of these names: ours, bpftrace's, the ratio."""
    fetch(_KERNEL)
    with tempfile.NamedTemporaryFile() as raw, tempfile.NamedTemporaryFile() as xfs:
        raw.truncate(64 << 20)
        xfs.truncate(320 << 20)  # XFS wants 300 MiB at least
        disks = (Path(raw.name), Path(xfs.name))
        with guest(kernel=_KERNEL, cpus=_CPUS, memory="4G", disks=disks, boot_timeout=300) as running:
            # QEMU 7.2 emulates AVX2 wrongly.
            environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
            words = [sys.executable, "-m", "bench.programs", "inside", *names]
            running.run(words, stdout=pass_on, stderr=pass_on, env=environment).check()


def inside(*names: str) -> None:
    """What runs in the guest."""
    from insitu.cli import main as insitu

    begun = time.monotonic()
    mount_tracing()
    set_up()
    os.environ["XDG_CACHE_HOME"] = "/run/cache"  # this machine's lies behind 9p
    insitu(["trace", "-q", "-e", _FIRST, "-o", os.devnull])
    pairs = [_PAIRS[name] for name in names or _PAIRS]
    with os.fdopen(enable_stats(), "rb"):
        for event in dict.fromkeys(pair.event for pair in pairs):
            _measure(event, [pair for pair in pairs if pair.event == event])
    print(f"{time.monotonic() - begun:.0f} s in all", flush=True)


def _start(tracers: dict[str, int], pair: Pair) -> None:
    """Start ours, bpftrace's and ours again, each when the one before has attached."""
    for name in _tools(pair):
        pid = _spawned(pair.peer) if name == _tools(pair)[1] else _forked(pair.ours)
        if _attaches(pid):
            tracers[name] = pid
        else:
            print(f"{name} attaches nothing: see above", flush=True)
            _end(pid)


def _forked(words: tuple[str, ...]) -> int:
    """A process that is insitu, tracing."""
    from insitu.cli import main as insitu

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            status = insitu(["trace", "-a", *words])
        finally:
            os._exit(status)
    return pid


def _spawned(tool: str) -> int:
    """A process that is bpftrace, tracing."""
    script = Path(f"/usr/sbin/{tool}.bt").read_text()
    for old, new in _MENDED.items():
        script = script.replace(old, new)
    with open(os.devnull, "wb") as sink:  # noqa: PTH123
        return subprocess.Popen(["bpftrace", "-e", script], stdout=sink).pid


def _attaches(pid: int) -> bool:
    """Wait until a process that holds BPF programs has used next to no CPU time for two seconds.

    False if it ends, or waits for something else.
    """
    for _ in range(_WAITS):
        before = _cpu_seconds(pid)
        time.sleep(2)
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        if _cpu_seconds(pid) - before < 0.2 and _program_ids(pid):
            return True
    return False


def _end(pid: int) -> None:
    """End a tool, unless it has ended: what it would print then is not wanted."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _program_ids(pid: int) -> set[int]:
    """Of the BPF programs that a process holds, or has links to."""
    found = set()
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "prog_id":
                found.add(int(value))
    return found


def _programs(pid: int) -> list[int]:
    """Descriptors of a process's BPF programs."""
    return [open_id(Command.PROG_GET_FD_BY_ID, number) for number in sorted(_program_ids(pid))]


class Used(NamedTuple):
    """What programs have used: nanoseconds, and how often they ran."""

    ns: int
    runs: int

    def since(self, before: "Used") -> "Used":
        return Used(self.ns - before.ns, self.runs - before.runs)


def _used(programs: list[int]) -> Used:
    info = [program_info(each) for each in programs]
    return Used(sum(each.run_time_ns for each in info), sum(each.run_count for each in info))


def _tools(pair: Pair) -> tuple[str, ...]:
    """What its tools are called among all."""
    ours = pair.ours[0]
    return (ours, f"{pair.peer}.bt", f"{ours} again") if pair.peer else (ours,)


def _measure(event: str, pairs: list[Pair]) -> None:
    """Start the tools of a load, and run it some times.

    The run in which a tool used least counts, as what disturbs only adds.
    """
    tracers: dict[str, int] = {}
    try:
        for pair in pairs:
            _start(tracers, pair)
        programs = {name: _programs(pid) for name, pid in tracers.items()}
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in tracers}
        for _ in range(_REPEATS):
            before = {name: _used(programs[name]) for name in tracers}
            count = LOADS[event]()
            for name in tracers:
                used = _used(programs[name]).since(before[name])
                runs[name].append((used.ns / count, used.runs / count))
    finally:
        for pid in tracers.values():
            _end(pid)
    for fd in itertools.chain(*programs.values()):
        os.close(fd)
    for pair in pairs:
        _show(pair, {name: min(each) for name, each in runs.items()})


def _show(pair: Pair, costs: Mapping[str, tuple[float, float]]) -> None:
    """A pair's line: for each event nanoseconds and runs of a program."""
    peer = f"{pair.peer}.bt"
    ours = min((costs[name] for name in _tools(pair) if name in costs and name != peer), default=None)
    theirs = costs.get(peer)
    text = f"{pair.event:<18}"
    for name, cost in ((pair.ours[0], ours), (pair.peer, theirs)):
        text += f"  {name:<15} {cost[0]:8.0f} ns {cost[1]:6.2f} runs" if cost else ""
    if ours and theirs:
        text += f"   ratio {ours[0] / theirs[0]:5.2f}"
    print(text, flush=True)


if __name__ == "__main__":
    # In the guest "inside"; else the names of programs, to measure some of them.
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
