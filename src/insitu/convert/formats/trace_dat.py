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
from insitu.convert.ahead import ahead
from insitu.convert.event_schema import EventKind
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.trace_dat_file import TraceBuffer, TraceDat, open_trace_dat
from insitu.convert.trace_events import EventWriter, event_kinds
from insitu.convert.trace_pages import END_NS, TraceRecords, page_layout
from insitu.convert.trace_windows import windows
from insitu.errors import InsituError
from insitu.session.writer import SessionWriter

__all__ = ["import_trace_dat", "kinds_of"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SOURCE: Final = "trace-cmd"
_LOST: Final = {"overrun": "events overwritten before they were read", "dropped events": "events dropped"}


def import_trace_dat(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read a trace.dat file: its events, threads and losses. Raises InsituError when it is damaged."""
    found = open_trace_dat(path)
    on_host = options.host is not None and _of_host(found, options.host)
    words = found.uname.split()
    writer.manifest = writer.manifest.changed(
        host=words[1] if len(words) > 1 else "",
        kernel=words[2] if len(words) > 2 else "",
        machine=words[-1] if len(words) > 3 else "",
        cpus=found.cpus,
        sources=[
            {
                "id": _SOURCE,
                "kind": "trace.dat",
                "options": {"clock": found.clock, **({"of_host": True} if on_host else {})},
            }
        ],
    )
    addresses = Addresses(writer, [], kallsyms=found.kallsyms)
    kinds = kinds_of(found, writer)
    for tid, name in found.names().items():
        if tid:
            writer.processes.thread(tid, writer.processes.process_of(tid), name=name)
    first_ns: list[int] = []
    last_ns: list[int] = []
    syscalls = True
    for buffer in found.buffers:
        if buffer.is_text:
            writer.notes.append(f"buffer {buffer.name or 'top'}: text of a latency tracer, not imported")
            continue
        prefix = re.sub(r"[^\w\-]", "_", buffer.name)[:40] + "." if buffer.name else ""
        events = EventWriter(
            kinds, writer, addresses, name=_SOURCE, prefix=prefix, states=not first_ns, syscalls=syscalls
        )
        for records in ahead(_records(found, buffer, on_host=on_host)):
            events.add(records)
            if len(records.ts_ns):
                first_ns.append(int(records.ts_ns.min()))
                last_ns.append(int(records.ts_ns.max()))
        events.finish(known_losses=bool(found.stats))
        syscalls = syscalls and not events.has_syscalls
    _add_losses(found, writer)
    if first_ns:
        start_ns = min(first_ns)
        real_ns = start_ns + found.date_ns if found.date_ns else 0
        writer.manifest = writer.manifest.changed(start_ns=start_ns, end_ns=max(last_ns), start_realtime_ns=real_ns)
    writer.notes += found.notes
    if found.shift is not None and not on_host:
        writer.notes.append("times are of the guest's clock; --host HOST.dat makes those of its host")
    addresses.finish()


def kinds_of(found: TraceDat, writer: SessionWriter) -> dict[int, EventKind]:
    """The kinds of events by number; a format that cannot be read becomes a note."""
    kinds: dict[int, EventKind] = {}
    for category, text in found.formats:
        name = re.search(r"^name: (\w{1,100})$", text, re.MULTILINE)
        try:
            if name is None:
                raise InsituError("an event without a name that a table can have")
            kinds |= event_kinds([(category, name[1], text)])
        except InsituError as error:
            writer.notes.append(f"format not read: {error}")
    return kinds


def _of_host(found: TraceDat, host: Path) -> bool:
    """Returns True for the file of a guest that was recorded with this host. Raises InsituError for others."""
    if found.shift is None:
        raise InsituError(
            f"{found.path}: it does not say how its clock differs from a host's", remedy="leave --host out"
        )
    if found.id not in open_trace_dat(host).guests:
        raise InsituError(
            f"{found.path}: not recorded with {host}",
            remedy="--host takes the host's file of the same trace-cmd record -A",
        )
    return True


def _records(found: TraceDat, buffer: TraceBuffer, *, on_host: bool) -> Iterator[TraceRecords]:
    layout = page_layout(found.header_page, buffer.page_bytes)
    files = {each.cpu: found.pages(buffer, each) for each in buffer.cpus}
    tsc = found.tsc if (buffer.clock or found.clock) == "x86-tsc" else None

    cpus = np.array(list(files), np.int32)

    def in_time(ticks: I64, cpu: I32) -> I64:
        if on_host and found.shift is not None:
            ticks = found.shift.host_times(ticks, cpu)
        return (ticks if tsc is None else _scaled(ticks, *tsc)) + found.offset_ns

    for records in windows(files, layout):
        until_ns = records.until_ns
        if until_ns != END_NS:
            until_ns = int(in_time(np.full(len(cpus), until_ns), cpus).min())
        yield TraceRecords(records.memory, in_time(records.ts_ns, records.cpu), *records[2:-1], until_ns)


def _scaled(ticks: I64, mult: int, shift: int, offset: int) -> I64:
    """Nanoseconds of TSC counts: (ticks * mult >> shift) + offset, without overflow (mul_u64_u32_shr)."""
    count, factor, by = ticks.astype(np.uint64), np.uint64(mult), np.uint64(min(shift, 63))
    low = (count & np.uint64(0xFFFFFFFF)) * factor
    high = (count >> np.uint64(32)) * factor
    shifted = (low >> by) + (high << (np.uint64(32) - by) if shift <= 32 else high >> (by - np.uint64(32)))
    return (shifted + np.uint64(offset)).astype(np.int64)


def _add_losses(found: TraceDat, writer: SessionWriter) -> None:
    for text in found.stats:
        cpu = re.search(r"^CPU: (\d{1,6})$", text, re.MULTILINE)
        for field, what in _LOST.items():
            if (count := re.search(rf"^{field}: (\d{{1,18}})$", text, re.MULTILINE)) is not None:
                writer.lost(what, int(count[1]), cpu=int(cpu[1]) if cpu else -1)
