"""Trace events as lines in the order of time: the thread, the CPU, the time, the event and its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np

from insitu.convert.trace_events import EventKind, event_columns
from insitu.convert.trace_pages import PageLayout, TraceRecords, decode_pages
from insitu.session.distinct import groups

__all__ = ["TraceLines", "event_line"]

_SHOWN_BYTES = 64


def event_line(ts_ns: int, thread: str, tid: int, cpu: int, event: str, text: str) -> str:
    """One event as the kernel's own text has it; the time is in seconds of the clock."""
    return (
        f"{thread:>16}-{tid:<7} [{cpu:03d}] {ts_ns // 10**9:>6}.{ts_ns % 10**9 // 1000:06d}: {event + ':':<20} {text}"
    )


class TraceLines:
    """Prints pages of a trace buffer as they come; ``name`` gives a thread's name."""

    def __init__(
        self, layout: PageLayout, kinds: Mapping[int, EventKind], name: Callable[[int], str], out: TextIO
    ) -> None:
        self._layout = layout
        self._kinds = kinds
        self._name = name
        self._out = out
        self._held: list[tuple[int, str]] = []
        self.lines = 0

    def add(self, pages: list[tuple[int, bytes]], until_ns: int) -> None:
        """Take (CPU, page) pairs, and print what happened until a time; what came later waits for other CPUs.

        Raises BrokenPipeError when the reader has gone.
        """
        if pages:
            memory = np.frombuffer(b"".join(page for _, page in pages), np.uint8)
            cpus = np.array([cpu for cpu, _ in pages], np.int32)
            self._held += self._lines(decode_pages(memory, cpus, self._layout))
        self._held.sort(key=lambda each: each[0])  # stable: records of one CPU stay in their order
        ready = next((at for at, each in enumerate(self._held) if each[0] > until_ns), len(self._held))
        if ready:
            self._out.write("".join(f"{line}\n" for _, line in self._held[:ready]))
            self._out.flush()
            self.lines += ready
            del self._held[:ready]

    def _lines(self, records: TraceRecords) -> Iterator[tuple[int, str]]:
        for number, rows in groups(records.event):
            kind = self._kinds.get(number)
            if kind is None:
                continue
            columns = event_columns(records, rows, kind.format)
            tids = _list(columns.pop("common_pid"))
            names, lists = list(columns), [_list(values) for values in columns.values()]
            for ts_ns, cpu, tid, *values in zip(
                records.ts_ns[rows].tolist(), records.cpu[rows].tolist(), tids, *lists, strict=True
            ):
                text = " ".join(f"{name}={_value(value)}" for name, value in zip(names, values, strict=True))
                yield ts_ns, event_line(ts_ns, self._name(tid), tid, cpu, kind.name, text)


def _list(values: Any) -> list[Any]:
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return found


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:_SHOWN_BYTES].hex() + ("..." if len(value) > _SHOWN_BYTES else "")
    return str(value)
