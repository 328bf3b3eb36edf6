"""Import of trace-cmd's trace.dat: its pages become ``event.NAME`` tables, as those of our own recordings do.

Events of the top level are ``event.NAME``, those of another buffer ``event.BUFFER.NAME``.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.trace_dat_file import TraceBuffer, TraceDat, open_trace_dat
from insitu.convert.trace_events import EventKind, EventWriter, event_kinds, windows
from insitu.convert.trace_pages import TraceRecords, field_values, page_layout
from insitu.errors import InsituError
from insitu.session.writer import SessionWriter

__all__ = ["import_trace_dat"]

I64 = NDArray[np.int64]

_SOURCE: Final = "trace-cmd"
_NAMES: Final = (("next_pid", "next_comm"), ("prev_pid", "prev_comm"), ("pid", "comm"))
_NAMING: Final = frozenset({"sched_switch", "sched_waking", "sched_wakeup", "sched_wakeup_new"})
_LOST: Final = {"overrun": "events overwritten before they were read", "dropped events": "events dropped"}


def import_trace_dat(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read a trace.dat file: its events, threads and losses. Raises InsituError when it is damaged."""
    found = open_trace_dat(path)
    words = found.uname.split()
    writer.manifest = writer.manifest.changed(
        host=words[1] if len(words) > 1 else "",
        kernel=words[2] if len(words) > 2 else "",
        machine=words[-1] if len(words) > 3 else "",
        cpus=found.cpus,
        sources=[{"id": _SOURCE, "kind": "trace.dat", "options": {"clock": found.clock}}],
    )
    addresses = Addresses(writer, [], kallsyms=found.kallsyms)
    kinds = _kinds(found, writer)
    names = _Names(found.names(), kinds, writer)
    first_ns, last_ns = [], []
    for buffer in found.buffers:
        if buffer.text:
            writer.notes.append(f"buffer {buffer.name or 'top'}: text of a latency tracer, not imported")
            continue
        events = EventWriter(_of_buffer(kinds, buffer.name), writer, addresses, name=_SOURCE)
        for records in _records(found, buffer):
            names.learn(records)
            events.add(records)
            if len(records.ts_ns):
                first_ns.append(int(records.ts_ns.min()))
                last_ns.append(int(records.ts_ns.max()))
        events.finish(known_losses=bool(found.stats))
    _add_losses(found, writer)
    if first_ns:
        start_ns = min(first_ns)
        real_ns = start_ns + found.date_ns if found.date_ns else 0
        writer.manifest = writer.manifest.changed(start_ns=start_ns, end_ns=max(last_ns), start_realtime_ns=real_ns)
    writer.notes += found.notes
    addresses.finish()


def _kinds(found: TraceDat, writer: SessionWriter) -> dict[int, EventKind]:
    kinds: dict[int, EventKind] = {}
    for category, text in found.formats:
        name = re.search(r"^name: (\S+)$", text, re.MULTILINE)
        try:
            if name is None:
                raise InsituError(f"an event of {category} without a name")
            kinds |= event_kinds([(category, name[1], text)])
        except InsituError as error:
            writer.notes.append(f"format not read: {error}")
    return kinds


def _of_buffer(kinds: dict[int, EventKind], buffer: str) -> dict[int, EventKind]:
    """The kinds, under names that say which buffer their events are from."""
    if not buffer:
        return kinds
    prefix = re.sub(r"[^\w\-]", "_", buffer)[:40]
    return {number: kind._replace(name=f"{prefix}.{kind.name}") for number, kind in kinds.items()}


def _records(found: TraceDat, buffer: TraceBuffer) -> Iterator[TraceRecords]:
    layout = page_layout(found.header_page, buffer.page_bytes)
    files = {each.cpu: found.pages(buffer, each) for each in buffer.cpus}
    for records in windows(files, layout):
        ts_ns = records.ts_ns
        if found.tsc is not None and (buffer.clock or found.clock) == "x86-tsc":
            ts_ns = _scaled(ts_ns, *found.tsc)
        yield TraceRecords(records.memory, ts_ns + found.offset_ns, *records[2:])


def _scaled(ticks: I64, mult: int, shift: int, offset: int) -> I64:
    """Nanoseconds of TSC counts: (ticks * mult >> shift) + offset, without overflow (mul_u64_u32_shr)."""
    count, factor, by = ticks.astype(np.uint64), np.uint64(mult), np.uint64(min(shift, 63))
    low = (count & np.uint64(0xFFFFFFFF)) * factor
    high = (count >> np.uint64(32)) * factor
    shifted = (low >> by) + (high << (np.uint64(32) - by) if shift <= 32 else high >> (by - np.uint64(32)))
    return (shifted + np.uint64(offset)).astype(np.int64)


class _Names:
    """Names of threads: those that the file lists, else those that scheduler events say."""

    def __init__(self, known: dict[int, str], kinds: dict[int, EventKind], writer: SessionWriter) -> None:
        self._processes = writer.processes
        self._known = {0}
        self._kinds = {number: kind for number, kind in kinds.items() if kind.name in _NAMING}
        for tid, name in known.items():
            self._add(tid, name)

    def learn(self, records: TraceRecords) -> None:
        """Take the names of threads that have none yet."""
        for number, kind in self._kinds.items():
            rows = np.flatnonzero(records.event == number)
            fields = {field.name: field for field in kind.format.fields}
            for pid, comm in _NAMES:
                if pid in fields and comm in fields and len(rows):
                    tids, first = np.unique(field_values(records, rows, fields[pid]), return_index=True)
                    new = [at for at, tid in enumerate(tids.tolist()) if tid not in self._known]
                    names = field_values(records, rows[first[new]], fields[comm])
                    for at, name in zip(new, names, strict=True):
                        self._add(int(tids[at]), name)

    def _add(self, tid: int, name: str) -> None:
        if tid not in self._known:
            self._known.add(tid)
            self._processes.thread(tid, self._processes.process_of(tid), name=name)


def _add_losses(found: TraceDat, writer: SessionWriter) -> None:
    for text in found.stats:
        cpu = re.search(r"^CPU: (\d{1,6})$", text, re.MULTILINE)
        for field, what in _LOST.items():
            if (count := re.search(rf"^{field}: (\d{{1,18}})$", text, re.MULTILINE)) is not None:
                writer.lost(what, int(count[1]), cpu=int(cpu[1]) if cpu else -1)
