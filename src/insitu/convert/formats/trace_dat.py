"""Import of trace-cmd's trace.dat: its pages become ``event.NAME`` tables, as those of our own recordings do.

Events of the top level are ``event.NAME``, those of another buffer ``event.BUFFER.NAME``. Before both stands the name
of the guest, if they are of one whose file was read with that of its host: then its CPUs come after the host's.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

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
from insitu.session.core_tables import VIRTUAL_CPU
from insitu.session.machines import MOST_MACHINES
from insitu.session.writer import SessionWriter
from insitu.valid_text import valid_text

__all__ = ["import_trace_dat", "kinds_of"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SOURCE: Final = "trace-cmd"
_LONGEST_NAME: Final = 40  # of a buffer or a guest
_MOST_CPUS: Final = 1 << 16
_LOST: Final = {"overrun": "events overwritten before they were read", "dropped events": "events dropped"}


def import_trace_dat(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read a trace.dat file, and those of guests: events, threads and losses. Raises InsituError for damaged ones."""
    found = open_trace_dat(path)
    on_host = options.host is not None and _of_host(found, open_trace_dat(options.host))
    guests = _guests(found, options.guests)
    writer.manifest = writer.manifest.changed(
        host=found.uname_words[1],
        kernel=found.uname_words[2],
        machine=found.uname_words[-1],
        cpus=found.cpus,
        sources=[
            {
                "id": _SOURCE,
                "kind": "trace.dat",
                "options": {
                    "clock": found.clock,
                    **({"of_host": True} if on_host else {}),
                    **({"guests": [guest.name for guest in guests]} if guests else {}),
                },
            }
        ],
    )
    times = _add_machine(_Machine(found, on_host=on_host), writer)
    _add_virtual_cpus(guests, writer, min((first_ns for first_ns, _ in times), default=0))
    for guest in guests:
        writer.begin_machine(
            guest.name,
            kernel=guest.found.uname_words[2],
            first_cpu=guest.first_cpu,
            cpus=guest.found.cpu_numbers,
            events=guest.prefix,
        )
        times += _add_machine(guest, writer)
    if times:
        start_ns = min(first_ns for first_ns, _ in times)
        real_ns = start_ns + found.date_ns if found.date_ns else 0
        end_ns = max(last_ns for _, last_ns in times)
        writer.manifest = writer.manifest.changed(start_ns=start_ns, end_ns=end_ns, start_realtime_ns=real_ns)


class _Machine(NamedTuple):
    """What was recorded on a machine: ``prefix`` comes before its events' names, ``first_cpu`` is added to CPUs.

    ``host_tids``: of CPUs of a guest, by its own numbers, the thread of the host that runs each.
    """

    found: TraceDat
    on_host: bool
    name: str = ""
    prefix: str = ""
    first_cpu: int = 0
    host_tids: Mapping[int, int] = MappingProxyType({})


def _guests(host: TraceDat, paths: Sequence[Path]) -> list[_Machine]:
    """The guests whose files are given. Raises InsituError for one that was not recorded with the host."""
    guests: list[_Machine] = []
    first_cpu = host.cpu_numbers
    taken = {_word(buffer.name).casefold() for buffer in host.buffers}
    if len(paths) >= MOST_MACHINES:
        raise InsituError(f"{len(paths)} guests: at most {MOST_MACHINES - 1} are read")
    for path in paths:
        found = open_trace_dat(path)
        _of_host(found, host)
        if any(found.id == other.found.id for other in guests):
            raise InsituError(f"{path}: a guest that is given twice", remedy="give each guest once")
        told = host.guests[found.id]
        name = valid_text(told.name[:_LONGEST_NAME])
        name = name if name and not name.isdecimal() else f"guest {name}".rstrip()  # a number is that of its vsock
        word = free = _word(name)
        for number in itertools.count(2):
            if free.casefold() not in taken:
                break
            free = f"{word}_{number}"
        taken.add(free.casefold())
        guests.append(_Machine(found, True, name, f"{free}.", first_cpu, told.host_tids))
        first_cpu += found.cpu_numbers
        if first_cpu > _MOST_CPUS:
            raise InsituError(f"{path}: with this guest there are {first_cpu} CPUs, at most {_MOST_CPUS} are read")
    return guests


def _add_virtual_cpus(guests: Sequence[_Machine], writer: SessionWriter, ts_ns: int) -> None:
    """Say which thread of the host, which is the machine of ``writer`` now, ran which CPU of a guest at ``ts_ns``."""
    rows = [
        (guest.first_cpu + cpu, machine, tid)
        for machine, guest in enumerate(guests, 1)
        for cpu, tid in sorted(guest.host_tids.items())
        if cpu < guest.found.cpu_numbers
    ]
    if not rows:
        return
    cpu, machine, tid = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    utid = writer.processes.utids(tid, np.full(len(tid), ts_ns))
    writer.append(VIRTUAL_CPU, {"cpu": cpu, "machine": machine, "utid": utid})


def _word(name: str) -> str:
    """A name as the name of a table can have it."""
    return re.sub(r"[^\w\-]", "_", name)[:_LONGEST_NAME]


def _add_machine(machine: _Machine, writer: SessionWriter) -> list[tuple[int, int]]:
    """Write what was recorded on a machine; the times of the first and the last event of each part."""
    found, notes = machine.found, len(writer.notes)
    addresses = Addresses(writer, [], kallsyms=found.kallsyms)
    kinds = kinds_of(found, writer)
    for tid, name in found.names().items():
        if tid:
            writer.processes.thread(tid, writer.processes.process_of(tid), name=name)
    times: list[tuple[int, int]] = []
    syscalls = True
    for buffer in found.buffers:
        if buffer.is_text:
            writer.notes.append(f"buffer {buffer.name or 'top'}: text of a latency tracer, not imported")
            continue
        events = EventWriter(
            kinds,
            writer,
            addresses,
            name=f"{_SOURCE}, {machine.name}" if machine.name else _SOURCE,
            prefix=machine.prefix + (f"{_word(buffer.name)}." if buffer.name else ""),
            states=not times,
            syscalls=syscalls,
            architecture=found.uname_words[-1],
        )
        for records in ahead(_records(machine, buffer)):
            events.add(records)
            if len(records.ts_ns):
                times.append((int(records.ts_ns.min()), int(records.ts_ns.max())))
        events.finish(known_losses=bool(found.stats))
        syscalls = syscalls and not events.has_syscalls
    _add_losses(machine, writer)
    writer.notes += found.notes
    if found.shift is not None and not machine.on_host:
        writer.notes.append("times are of the guest's clock; --host HOST.dat makes those of its host")
    addresses.finish()
    if machine.name:
        writer.notes[notes:] = [f"{machine.name}: {note}" for note in writer.notes[notes:]]
    return times


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


def _of_host(found: TraceDat, host: TraceDat) -> bool:
    """Returns True for the file of a guest that was recorded with this host. Raises InsituError for others."""
    if found.shift is None:
        raise InsituError(
            f"{found.path}: it does not say how its clock differs from a host's",
            remedy="import it alone: trace-cmd record -A records a guest with its host",
        )
    if found.id not in host.guests:
        raise InsituError(
            f"{found.path}: not recorded with {host.path}",
            remedy="give the files of the host and of its guest that the same trace-cmd record -A wrote",
        )
    return True


def _records(machine: _Machine, buffer: TraceBuffer) -> Iterator[TraceRecords]:
    found, first_cpu = machine.found, machine.first_cpu
    layout = page_layout(found.header_page, buffer.page_bytes)
    files = {each.cpu: found.pages(buffer, each) for each in buffer.cpus}
    tsc = found.tsc if (buffer.clock or found.clock) == "x86-tsc" else None

    cpus = np.array(list(files), np.int32)

    def in_time(ticks: I64, cpu: I32) -> I64:
        if machine.on_host and found.shift is not None:
            ticks = found.shift.host_times(ticks, cpu)
        return (ticks if tsc is None else _scaled(ticks, *tsc)) + found.offset_ns

    for records in windows(files, layout):
        until_ns = records.until_ns
        if until_ns != END_NS:
            until_ns = int(in_time(np.full(len(cpus), until_ns), cpus).min())
        memory, ts_ns, cpu, event, at, size, page, lost, missed, damaged, _ = records
        lost = {number + first_cpu: count for number, count in lost.items()}
        ts_ns, cpu = in_time(ts_ns, cpu), cpu + np.int32(first_cpu)
        yield TraceRecords(memory, ts_ns, cpu, event, at, size, page, lost, missed, damaged, until_ns)


def _scaled(ticks: I64, mult: int, shift: int, offset: int) -> I64:
    """Nanoseconds of TSC counts: (ticks * mult >> shift) + offset, without overflow (mul_u64_u32_shr)."""
    count, factor, by = ticks.astype(np.uint64), np.uint64(mult), np.uint64(min(shift, 63))
    low = (count & np.uint64(0xFFFFFFFF)) * factor
    high = (count >> np.uint64(32)) * factor
    shifted = (low >> by) + (high << (np.uint64(32) - by) if shift <= 32 else high >> (by - np.uint64(32)))
    return (shifted + np.uint64(offset)).astype(np.int64)


def _add_losses(machine: _Machine, writer: SessionWriter) -> None:
    for text in machine.found.stats:
        cpu = re.search(r"^CPU: (\d{1,6})$", text, re.MULTILINE)
        for field, what in _LOST.items():
            if (count := re.search(rf"^{field}: (\d{{1,18}})$", text, re.MULTILINE)) is not None:
                writer.lost(what, int(count[1]), cpu=int(cpu[1]) + machine.first_cpu if cpu else -1)
