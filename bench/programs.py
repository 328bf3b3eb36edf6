"""Cost per event of ready programs beside bpftrace's and bcc's tools of the same purpose, in a lab guest.

Nanoseconds in BPF programs, by the kernel's own count (BPF_STATS_RUN_TIME), for each open, connection, switch or
request of a load; what a kprobe, tracepoint or system call costs besides is not in it. The tools of a load run at the
same time and so see the same events, also those of the rest of the guest. An emulated machine takes long to start
either tool: ours are forked from a process that has everything loaded.

Of several programs at an event, the first one fills the caches and the TLB for the others, which costs more than the
program itself where these are emulated. So ours is attached both before and after its peers, and counts where it cost
less.

Which tools these are is in _program_peers.py; those that do not start on this kernel are named with what they say.
bpftrace's biolatency, biosnoop and tcpdrop cannot attach to it.
"""

import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench._guests import mount_tracing, pass_on
from bench._program_loads import LOADS, set_up
from bench._program_peers import PAIRS, Pair, Peer, complaint, started
from insitu.kernel.bpf import enable_stats, open_id, program_info
from insitu.kernel.bpf_abi import Command
from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch

__all__ = ["main"]

_KERNEL = "6.12"
_REPEATS = 5
_CPUS = 2
_WAITS = 60  # of two seconds
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Loads what all of ours use, to be inherited: types, LLVM, every part of the command.
_FIRST = """
kprobe:vfs_read /pid == 0/ { @[((struct sock *)arg0)->sk_ack_backlog] = count(); printf("%s", str(arg1)); }
BEGIN { @h = hist(1); exit(); }
"""


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
    pairs = [PAIRS[name] for name in names or PAIRS]
    with os.fdopen(enable_stats(), "rb"):
        for event in dict.fromkeys(pair.event for pair in pairs):
            _measure(event, [pair for pair in pairs if pair.event == event])
    print(f"{time.monotonic() - begun:.0f} s in all", flush=True)


def _start(tracers: dict[str, int], pair: Pair) -> None:
    """Start ours, its peers and ours again, each when the one before has attached."""
    ours = pair.ours[0]
    for peer in (None, *pair.peers, None):
        name = _name(pair, peer) if peer else f"{ours} again" if ours in tracers else ours
        pid = started(peer) if peer else _forked(pair.ours)
        if pid is None:
            print(f"{name} is not installed", flush=True)
        elif _attaches(pid):
            tracers[name] = pid
        else:
            print(f"{name} attaches nothing: {complaint(peer) if peer else 'see above'}", flush=True)
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


def _name(pair: Pair, peer: Peer) -> str:
    """What a peer is called among all tools of a load, of which the same one may be beside two of ours."""
    return f"{peer.name} beside {pair.ours[0]}"


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
    """A pair's lines: for each event nanoseconds and runs of a program, of ours and of each peer."""
    ours = min((costs[name] for name in (pair.ours[0], f"{pair.ours[0]} again") if name in costs), default=None)
    print(_shown(pair.event, pair.ours[0], ours), flush=True)
    for peer in pair.peers:
        theirs = costs.get(_name(pair, peer))
        if theirs is not None:
            ratio = f"   ratio {ours[0] / theirs[0]:5.2f}" if ours and theirs[0] else ""
            print(_shown("", peer.name, theirs) + ratio, flush=True)


def _shown(event: str, name: str, cost: tuple[float, float] | None) -> str:
    text = f"{event:<18}  {name:<22}"
    return text + (f" {cost[0]:8.0f} ns {cost[1]:6.2f} runs" if cost else " attaches nothing")


if __name__ == "__main__":
    # In the guest "inside"; else the names of programs, to measure some of them.
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
