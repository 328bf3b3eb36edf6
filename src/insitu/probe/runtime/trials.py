"""Runs a script's test and bench probes: each test once, each benchmark many times."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from insitu.kernel import bpf
from insitu.kernel.bpf_abi import ProgramType

if TYPE_CHECKING:
    from insitu.probe.output.stream import Output
    from insitu.probe.runtime.loader import LoadedProgram
    from insitu.probe.runtime.run import Runtime

__all__ = ["run_trials"]

_MOST_RUNS, _LONGEST_S = 20_000, 1.0  # of a benchmark, whichever is first
_WARMING_RUNS = 200
_NOTHING = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit


def run_trials(runtime: Runtime, output: Output, kind: str) -> None:
    """Run the probes of a kind, ``test`` or ``bench``, and print the results; then the script has ended.

    A test passes if it returns 0, and calls neither exit() with another status nor an assert() that does not hold.
    What it prints is shown if it fails. ``output.exit_status`` is 1 after a failure.
    """
    programs = [each for each in runtime.loaded.programs if each.points[0].kind == kind]
    if kind == "test":
        passed = [_passes(runtime, output, program) for program in programs]
        status = 0 if all(passed) else 1
    else:
        _measure_all(runtime, output, programs)
        status = 0
    output.exit_status = status
    runtime.ended = True


def _passes(runtime: Runtime, output: Output, program: LoadedProgram) -> bool:
    returned = bpf.run_raw_tracepoint(program.fd)
    status = int.from_bytes(returned.to_bytes(4, "little"), "little", signed=True) or runtime.take_exit()
    with contextlib.nullcontext() if status else output.silence():
        runtime.drain()
    output.exit_status = None
    name = program.points[0].function
    output.text("test", f"FAIL {name}: {status}\n" if status else f"PASS {name}\n")
    output.flush()
    return not status


def _measure_all(runtime: Runtime, output: Output, programs: list[LoadedProgram]) -> None:
    with _counted_time():
        nothing, _ = bpf.load_program(_NOTHING, ProgramType.RAW_TRACEPOINT, name="nothing")
        try:
            least_ns = _mean_ns(runtime, nothing)
        finally:
            os.close(nothing)
        found = []
        for program in programs:
            with output.silence():
                mean_ns = _mean_ns(runtime, program.fd)
                runtime.drain()
            found.append((program.points[0].function, str(max(0, round(mean_ns - least_ns)))))
        output.exit_status = None
        runtime.take_exit()
    rows = [("BENCHMARK", "NANOSECONDS"), *sorted(found)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    line = f"+-{'-' * widths[0]}-+-{'-' * widths[1]}-+\n"
    lines = [f"| {name:{widths[0]}} | {number:{widths[1]}} |\n" for name, number in rows]
    output.text("bench", "\n\n" + "".join([line, lines[0], line, *lines[1:], line]))
    output.flush()


def _mean_ns(runtime: Runtime, program_fd: int) -> float:
    """How long a run of a program takes, as the kernel counts it, its counting included."""
    for _ in range(_WARMING_RUNS):
        bpf.run_raw_tracepoint(program_fd)
    before = bpf.program_info(program_fd)
    end_s = time.monotonic() + _LONGEST_S
    for number in range(_MOST_RUNS):
        bpf.run_raw_tracepoint(program_fd)
        if number % _WARMING_RUNS == 0:
            runtime.drain()
            if time.monotonic() > end_s:
                break
    after = bpf.program_info(program_fd)
    return (after.run_time_ns - before.run_time_ns) / max(1, after.run_count - before.run_count)


@contextlib.contextmanager
def _counted_time() -> Iterator[None]:
    """Let the kernel count the time that programs take."""
    fd = bpf.enable_stats()
    try:
        yield
    finally:
        os.close(fd)
