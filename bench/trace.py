"""The probe language against bpftrace: time to start, cost per event in the kernel, records drained.

Both see the same load; figures are ours, bpftrace's, and the ratio of the two; what it should at most be stands
behind some. Where there are kprobes: trace_lab.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench._loads import compiled
from bench._measure import INSITU, once
from insitu.kernel.bpf import enable_stats, object_ids, open_id, program_info
from insitu.kernel.bpf_abi import Command

_OURS = [INSITU, "trace"]
# bpftrace wants tracefs mounted: it gets a mount namespace of its own.
_PEER = [
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount -t debugfs d /sys/kernel/debug; mount -t tracefs t /sys/kernel/tracing; exec bpftrace "$@"',
    "sh",
]
_REPEATS = 7
_COSTS = 3

_LOAD = """
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
__attribute__((noinline)) int work(int n) { __asm__ volatile("" :: "r"(n)); return n; }
int main(int argc, char **argv)
{
    for (long i = atol(argv[1]); i; i--) { syscall(SYS_getppid); }
    return 0;
}
"""
# Events that are rare, and of a process that does not exist: nobody else's work is slowed down.
_TEN = " ".join(
    f"tracepoint:sched:{name} /pid == 0xffffff/ {{ @[{index}, curtask->mm->map_count] = count(); }}"
    for index, name in enumerate(
        [
            "sched_process_exec",
            "sched_process_exit",
            "sched_process_fork",
            "sched_process_free",
            "sched_process_hang",
            "sched_process_wait",
            "sched_kthread_stop",
            "sched_kthread_stop_ret",
            "sched_move_numa",
            "sched_swap_numa",
        ]
    )
)
_STARTS = {
    "BEGIN { exit(); }": ("-e", "BEGIN { exit(); }"),
    "ten tracepoints, BTF structs": ("-e", f"BEGIN {{ exit(); }} {_TEN}"),
    "-l tracepoint:sched:*": ("-l", "tracepoint:sched:*"),
    "--help": ("--help",),
}
_EVENTS = {
    "count()": "@ = count();",
    "count() by a string": "@[comm] = count();",
    "hist()": "@ = hist(args->id);",
    "hist() by a number": "@[cpu] = hist(args->id);",
    "sum() by a number": "@[args->id] = sum(1);",
    "a map set and deleted": "@[tid] = nsecs; delete(@[tid]);",
    "printf of three values": 'printf("%d %s %d\\n", pid, comm, args->id);',
}


# The most that a ratio should be, by what is shown.
_AIMS = {
    "start, cached: BEGIN { exit(); }": 0.45,
    "  CPU time: start, cached: BEGIN { exit(); }": 1.0,
    "cost per event: a map set and deleted": 1.0,
}


def _show(what: str, ours: float, peers: float, unit: str) -> None:
    ratio = ours / peers if peers else float("nan")
    aim = f" (at most {_AIMS[what]})" if what in _AIMS else ""
    figures = f"ours {ours:10.1f} {unit}   bpftrace {peers:10.1f} {unit}   ratio {ratio:5.2f}{aim}"
    print(f"{what:<54} {figures}", flush=True)


def start_times() -> None:
    """Wall and CPU time of runs that end at once: compiled anew, from the cache, and bpftrace's, in alternation."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed insitu is compiled
        for name, words in _STARTS.items():
            once([*_OURS, *words])
            costs = [
                (once([*_OURS, "--no-cache", *words]), once([*_OURS, *words]), once([*_PEER, *words]))
                for _ in range(_REPEATS)
            ]
            for column, what in ((0, "start"), (1, "start, cached")):
                pairs = [(each[column], each[2]) for each in costs]
                _show(f"{what}: {name}", *_medians_ms([(ours.wall_s, peer.wall_s) for ours, peer in pairs]), "ms")
                _show(
                    f"  CPU time: {what}: {name}",
                    *_medians_ms([(ours.cpu_s, peer.cpu_s) for ours, peer in pairs]),
                    "ms",
                )
        del os.environ["XDG_CACHE_HOME"]


def _medians_ms(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    ours, peers = zip(*pairs, strict=True)
    return statistics.median(ours) * 1000, statistics.median(peers) * 1000


def _cost(words: Sequence[str], body: str, load: Path, events: int) -> float:
    """Nanoseconds per run of the program, by the kernel's own count (BPF_STATS_RUN_TIME)."""
    text = f"tracepoint:raw_syscalls:sys_enter /pid == $1/ {{ {body} }}"
    waiting = subprocess.Popen(["sh", "-c", f"read x; exec {load} {events}"], stdin=subprocess.PIPE, text=True)
    before = set(object_ids(Command.PROG_GET_NEXT_ID))
    tracer = subprocess.Popen(
        [*words, "-e", text, str(waiting.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        program = _wait_for_program(before)
        time.sleep(0.5)
        begun = program_info(program)
        waiting.communicate("go\n")
        ended = program_info(program)
        os.close(program)
        return (ended.run_time_ns - begun.run_time_ns) / max(1, ended.run_count - begun.run_count)
    finally:
        tracer.terminate()
        tracer.wait()


def _wait_for_program(before: set[int]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for number in sorted(set(object_ids(Command.PROG_GET_NEXT_ID)) - before):
            descriptor = open_id(Command.PROG_GET_FD_BY_ID, number)
            if program_info(descriptor).type == 5:  # BPF_PROG_TYPE_TRACEPOINT
                return descriptor
            os.close(descriptor)
        time.sleep(0.05)
    raise SystemExit("no program appeared")


def event_costs(load: Path, events: int = 400_000) -> None:
    """Cost per event inside the kernel."""
    with os.fdopen(enable_stats(), "rb"):
        for name, body in _EVENTS.items():
            costs = [(_cost(_OURS, body, load, events), _cost(_PEER, body, load, events)) for _ in range(_COSTS)]
            ours, peers = (min(each) for each in zip(*costs, strict=True))  # what disturbs only adds
            _show(f"cost per event: {name}", ours, peers, "ns")


def lines(load: Path, events: int = 400_000) -> None:
    """printf lines to a file: how many arrive, and how many a second of the run."""
    text = 'tracepoint:raw_syscalls:sys_enter /pid == cpid/ { printf("%d %s %d\\n", pid, comm, args->id); }'
    figures = []
    for words in (_OURS, _PEER):
        with tempfile.NamedTemporaryFile("rb") as file:
            begun = time.monotonic()
            command = [*words, "-o", file.name, "-c", f"{load} {events}", "-e", text]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            took = time.monotonic() - begun
            arrived = sum(1 for _ in file)
            lost = re.findall(r"[Ll]ost (\d+)", done.stderr)
            figures.append(arrived / took)
            print(f"  {words[0]}: {arrived} lines in {took:.2f} s, lost {sum(map(int, lost))}")
    _show("printf lines a second", figures[0], figures[1], "/s")


def typed_events(load: Path, events: int = 2_000_000) -> None:
    """emit() into a table: events a second that arrive without loss, beside the process that makes them."""
    import insitu

    text = 'tracepoint:raw_syscalls:sys_enter /pid == cpid/ { emit("call", (number=args->id, thread=tid)); }'
    with insitu.trace(text, command=f"{load} {events}") as running:
        begun, cpu_begun = time.monotonic(), time.process_time()
        running.wait()
        took, cpu = time.monotonic() - begun, time.process_time() - cpu_begun
        count = len(running.tables["call"])
        rate = f"{count / took / 1e6:.2f} million/s"
        print(f"typed events: {count} in {took:.2f} s = {rate}, reader's CPU {cpu:.2f} s, lost {running.lost}")


def main() -> None:
    """All of them."""
    with tempfile.TemporaryDirectory() as directory:
        load = compiled(_LOAD, Path(directory) / "load")
        start_times()
        event_costs(load)
        lines(load)
        typed_events(load)


if __name__ == "__main__":
    main()
