"""Cost per event of ready programs beside bpftrace's tools of the same purpose, in a lab guest.

Nanoseconds in BPF programs, by the kernel's own count (BPF_STATS_RUN_TIME), for each open, connection, switch or
request of a load; what a kprobe, tracepoint or system call costs besides is not in it. bpftrace's biolatency and
biosnoop cannot attach to these kernels.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench._guests import mount_tracing, pass_on
from bench._measure import INSITU
from insitu.kernel.bpf import enable_stats, object_ids, open_id, program_info
from insitu.kernel.bpf_abi import Command
from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch

__all__ = ["main"]

_KERNEL = "6.12"
_REPEATS = 3
_DISK = "/dev/vda"


def _opens() -> int:
    for _ in range(5000):
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    return 5000


def _connections() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(300):
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass
    return 300


def _switches() -> int:
    """Two processes that wake each other on one CPU."""
    here, there = socket.socketpair()
    child = os.fork()
    os.sched_setaffinity(0, {0})
    if child == 0:
        here.close()
        while there.recv(1):
            there.send(b"x")
        os._exit(0)
    there.close()
    for _ in range(3000):
        here.send(b"x")
        here.recv(1)
    here.close()
    os.waitpid(child, 0)
    return 6000


def _requests() -> int:
    subprocess.run(
        ["dd", f"if={_DISK}", "of=/dev/null", "bs=4k", "count=1000", "iflag=direct", "status=none"], check=True
    )
    return 1000


_PAIRS: dict[str, tuple[str | None, Callable[[], int]]] = {
    "opens": ("opensnoop", _opens),
    "runqlat": ("runqlat", _switches),
    "tcpconnect": ("tcpconnect", _connections),
    "tcplife": ("tcplife", _connections),
    "bitesize": ("bitesize", _requests),
    "biolatency": (None, _requests),
    "biosnoop": (None, _requests),
}


def main(*names: str) -> None:
    """A line for each program, or of those names: ours, bpftrace's, the ratio."""
    fetch(_KERNEL)
    with tempfile.NamedTemporaryFile() as disk:
        disk.truncate(64 << 20)
        with guest(kernel=_KERNEL, cpus=2, memory="2G", disks=(Path(disk.name),)) as running:
            running.run([sys.executable, "-m", "bench.programs", "inside", *names], stdout=pass_on).check()


def inside(*names: str) -> None:
    """What runs in the guest."""
    mount_tracing()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with os.fdopen(enable_stats(), "rb"):
        for name in names or _PAIRS:
            peer, load = _PAIRS[name]
            ours = _cost([INSITU, "trace", name], load)
            text = f"{os.uname().release}: {name:<12} ours {ours:8.0f} ns"
            if peer:
                theirs = _cost(["bpftrace", f"/usr/sbin/{peer}.bt"], load)
                text += f"   bpftrace's {peer} {theirs:8.0f} ns   ratio {ours / theirs:5.2f}"
            print(text, flush=True)


def _cost(words: Sequence[str], load: Callable[[], int]) -> float:
    """Nanoseconds of its programs for each event of the load: the least of some runs, as what disturbs only adds."""
    before = set(object_ids(Command.PROG_GET_NEXT_ID))
    tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    programs = _attached(before)
    costs = []
    try:
        for _ in range(_REPEATS):
            begun = sum(program_info(each).run_time_ns for each in programs)
            events = load()
            costs.append((sum(program_info(each).run_time_ns for each in programs) - begun) / events)
    finally:
        tracer.terminate()
        tracer.wait()
        for each in programs:
            os.close(each)
    return min(costs)


def _attached(before: set[int]) -> list[int]:
    """Descriptors of the programs that have appeared once no more of them do for some seconds."""
    found: set[int] = set()
    since = time.monotonic()
    while not found or time.monotonic() - since < 5:
        now = set(object_ids(Command.PROG_GET_NEXT_ID)) - before
        if now != found:
            found, since = now, time.monotonic()
        time.sleep(0.2)
    return [open_id(Command.PROG_GET_FD_BY_ID, number) for number in sorted(found)]


if __name__ == "__main__":
    # In the guest "inside"; else the names of programs, to measure some of them: each takes a minute or two.
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
