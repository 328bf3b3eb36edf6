"""A session of ticks: what was on the screen becomes tables, and the samples a flame graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from insitu.kernel import procfs
from insitu.plurals import counted
from insitu.record.top.functions import Functions
from insitu.record.top.kernel_counts import HERTZ
from insitu.record.top.tick import Process, Tick
from insitu.session.core_tables import COUNTER, SAMPLE, TRACK
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import PROCESS_TICK
from insitu.session.writer import SessionWriter

__all__ = ["save"]


def save(path: Path, ticks: Sequence[Tick], wanted: Callable[[Process], bool], functions: Functions) -> str:
    """Make the session ``path`` of the ticks and the processes that are wanted; returns what it holds.

    Raises InsituError, or OSError when the disk is full.
    """
    # Ticks have the time of day, sessions CLOCK_MONOTONIC.
    offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    first = ticks[0].time_ns - round(ticks[0].dur_s * 1e9)
    manifest = Manifest.here(
        procfs,
        whole_system=True,
        sources=[{"id": "top", "kind": "top", "options": {}}],
        start_ns=first - offset_ns,
        start_realtime_ns=first,
        end_ns=ticks[-1].time_ns - offset_ns,
    )
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        upids = _processes(writer, ticks, wanted, offset_ns)
        samples = _samples(writer, ticks, {pid for pid, _ in upids}, functions, offset_ns)
        _machine(writer, ticks, offset_ns)
        writer.finish()
    seconds = (ticks[-1].time_ns - first) / 1e9
    return f"{path}: {seconds:.0f} s, {counted(len(upids), 'process', 'processes')}, {counted(samples, 'sample')}"


def _processes(
    writer: SessionWriter, ticks: Sequence[Tick], wanted: Callable[[Process], bool], offset_ns: int
) -> dict[tuple[int, int], int]:
    """Write what each process did; returns upids by pid and start."""
    upids: dict[tuple[int, int], int] = {}
    rows: list[tuple[Any, ...]] = []
    for tick in ticks:
        dur_ns = round(tick.dur_s * 1e9)
        start_ns = tick.time_ns - dur_ns - offset_ns
        for row in filter(wanted, tick.processes):
            key = row.pid, row.start
            if key not in upids:
                known = any(pid == row.pid for pid, _ in upids)
                upids[key] = writer.processes.process(row.pid, start_ns if known else 0)
                writer.processes.thread(row.pid, upids[key], start_ns if known else 0, name=row.name)
            times = (row.cpu, row.wait, row.off_cpu)
            rates = (row.calls, row.read_bytes, row.write_bytes)
            rows.append(
                (
                    start_ns,
                    dur_ns,
                    upids[key],
                    *(None if share is None else round(share * dur_ns) for share in times),
                    *(None if rate is None else round(rate * tick.dur_s) for rate in rates),
                    row.rss_bytes,
                )
            )
    writer.append_rows(PROCESS_TICK, rows)
    return upids


def _samples(
    writer: SessionWriter, ticks: Sequence[Tick], pids: set[int], functions: Functions, offset_ns: int
) -> int:
    """Write a row per stack and tick, weighted by the CPU time of its samples; returns the number of samples."""
    kind = writer.event_type("cpu-clock", "ns", source="top")
    utids: dict[tuple[int, int], int] = {}
    rows, count = [], 0
    for tick in ticks:
        for sample, samples in tick.on_cpu.items():
            if sample.pid not in pids:
                continue
            who = sample.pid, sample.tid
            if who not in utids:
                utids[who] = writer.processes.thread(
                    sample.tid, writer.processes.process_of(sample.pid), name=_name(who, ticks)
                )
            stack = writer.intern_stack(functions.frames(sample))
            count += samples
            rows.append((tick.time_ns - offset_ns, utids[who], -1, kind, stack, samples * 10**9 // HERTZ))
    writer.append_rows(SAMPLE, rows)
    # A row stands for many samples: what is added up is the weight.
    writer.manifest = writer.manifest.changed(sources=[{**writer.manifest.sources[0], "value": "weight"}])
    return count


def _name(who: tuple[int, int], ticks: Sequence[Tick]) -> str:
    """The latest name of a thread, else of its process."""
    for tick in reversed(ticks):
        for row in (*tick.threads, *tick.processes):
            if row.pid == who[1]:
                return row.name
    return next((row.name for tick in reversed(ticks) for row in tick.processes if row.pid == who[0]), "")


def _machine(writer: SessionWriter, ticks: Sequence[Tick], offset_ns: int) -> None:
    """Write the machine's figures as counters."""
    tracks: dict[tuple[str, str, int | None], int] = {}
    values = []
    for tick in ticks:
        ts_ns = tick.time_ns - offset_ns
        for key, value in _figures(tick):
            if value is not None:
                values.append((ts_ns, tracks.setdefault(key, len(tracks)), float(value)))
    writer.append_rows(TRACK, [(at, name, unit, None, cpu, "") for (name, unit, cpu), at in tracks.items()])
    writer.append_rows(COUNTER, values)


def _figures(tick: Tick) -> list[tuple[tuple[str, str, int | None], float | None]]:
    """Name, unit and CPU of each figure, and its value."""
    machine = tick.machine
    cpus = [
        ((name, "share", cpu), value) for cpu, use in machine.cpus.items() for name, value in use._asdict().items()
    ]
    pressure = [((f"pressure {name}", "share", None), value) for name, value in machine.pressure.items()]
    disks = [((f"disk {name}", "", None), value) for name, value in machine.disks._asdict().items()]
    plain = [
        ((name, "", None), value)
        for name, value in machine._asdict().items()
        if name not in ("cpus", "pressure", "disks", "temperatures")
    ]
    cpus += [(("cpu temperature", "degrees", cpu), value) for cpu, value in machine.temperatures.items()]
    return [*cpus, *pressure, *disks, *plain, (("calls", "per second", None), tick.calls)]
