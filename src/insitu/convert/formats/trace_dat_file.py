"""The container of trace-cmd's trace.dat, versions 6 and 7 (trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)).

What was recorded, by which events' formats, and where the ring buffer's pages are. No page is decoded here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct, field

from insitu.convert.file_bytes import FileBytes
from insitu.convert.formats.source_file import opened
from insitu.convert.formats.trace_dat_clock import TimeShift, read_time_shift
from insitu.convert.formats.trace_dat_sections import (
    MAGIC,
    Budget,
    Cursor,
    Decompress,
    chunks,
    decompressor,
    section,
)
from insitu.errors import InsituError
from insitu.files import temporary_home

__all__ = ["CpuPages", "Option", "RecordedGuest", "TraceBuffer", "TraceDat", "open_trace_dat"]


class Option(IntEnum):
    """What an option says; the later ones say where a section is (lib/trace-cmd/include/trace-cmd-local.h)."""

    DONE = 0
    DATE = 1
    CPUSTAT = 2
    BUFFER = 3
    TRACECLOCK = 4
    UNAME = 5
    OFFSET = 7
    CPUCOUNT = 8
    VERSION = 9
    TRACEID = 11
    TIME_SHIFT = 12
    GUEST = 13
    TSC2NSEC = 14
    HEADER_INFO = 16
    FTRACE_EVENTS = 17
    EVENT_FORMATS = 18
    KALLSYMS = 19
    PRINTK = 20
    CMDLINES = 21
    BUFFER_TEXT = 22


_MOST_CPUS: Final = 1 << 16
_MOST_TIDS: Final = 1 << 22  # PID_MAX_LIMIT
_MOST_EVENTS: Final = 1 << 20
_MOST_OPTIONS: Final = 1 << 17
_PAGE_BYTES: Final = (1 << 9, 1 << 26)  # of a subbuffer (buffer_subbuf_size_kb)


class CpuPages(NamedTuple):
    """Where the pages of a CPU are in the file; ``size`` in bytes as stored."""

    cpu: int
    offset: int
    size: int


class TraceBuffer(Struct):
    """A ring buffer: ``name`` is that of its tracefs instance ("" for the top level).

    ``is_text``: it has the text of a latency tracer, and no pages.
    """

    name: str
    clock: str
    page_bytes: int
    cpus: list[CpuPages]
    compressed: bool = False
    is_text: bool = False


class RecordedGuest(NamedTuple):
    """A guest that was recorded with its host: which thread of the host runs which of its CPUs, as far as known."""

    name: str
    host_tids: dict[int, int]


class TraceDat(Struct):
    """An open trace.dat file.

    ``formats`` are (system, text of the event's format file); ``stats`` the texts of per_cpu/cpuN/stats.
    ``date_ns`` plus an event's time is the wall clock; ``offset_ns`` is to be added to every time. ``tsc``: (mult,
    shift, offset) that make nanoseconds of TSC counts. ``id`` is that of a guest's recording, ``shift`` of its clock;
    ``guests`` are those that were recorded with this host, by the ids of their recordings.
    """

    path: Path
    data: FileBytes
    page_bytes: int
    budget: Budget
    decompress: Decompress | None = None
    header_page: str = ""
    formats: list[tuple[str, str]] = field(default_factory=list)
    kallsyms: bytes = b""
    cmdlines: bytes = b""
    buffers: list[TraceBuffer] = field(default_factory=list)
    stats: list[str] = field(default_factory=list)
    uname: str = ""
    clock: str = ""
    cpus: int = 0
    date_ns: int = 0
    offset_ns: int = 0
    tsc: tuple[int, int, int] | None = None
    id: int = 0
    guests: dict[int, RecordedGuest] = field(default_factory=dict)
    shift: TimeShift | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def uname_words(self) -> tuple[str, str, str, str]:
        """What uname -a said of the system's name, host, release and machine; "" for what is not known."""
        words = self.uname.split()
        name, host, release = (*words, "", "", "")[:3]
        return name, host, release, words[-1] if len(words) > 3 else ""

    @property
    def cpu_numbers(self) -> int:
        """One more than the highest number of a CPU, of those with pages too."""
        return max([self.cpus, *(each.cpu + 1 for buffer in self.buffers for each in buffer.cpus)])

    def pages(self, buffer: TraceBuffer, of: CpuPages) -> FileBytes:
        """The pages of a CPU, decompressed into a file without a name. Raises InsituError when they cannot be."""
        if not buffer.compressed or self.decompress is None:
            return self.data.part(of.offset, of.offset + of.size)
        import tempfile

        unpacked = tempfile.TemporaryFile(dir=temporary_home())  # noqa: SIM115 - FileBytes keeps it open
        for piece in chunks(self.data, of.offset, of.size, self.decompress, str(self.path), self.budget):
            unpacked.write(piece)
        unpacked.flush()
        return FileBytes(unpacked)

    def names(self) -> dict[int, str]:
        """The names of threads by tid (saved_cmdlines)."""
        found = re.findall(r"^\s*(\d{1,10}) ([^\n]+)$", self.cmdlines.decode(errors="replace"), re.MULTILINE)
        return {int(tid): name[:64] for tid, name in found if int(tid) < 1 << 31}


def open_trace_dat(path: Path) -> TraceDat:
    """Open a file of trace-cmd. Raises InsituError when it is damaged, or of a version that is not read."""
    data = FileBytes(opened(path))
    at = Cursor(data, str(path))
    if bytes(at.take(len(MAGIC))) != MAGIC:
        raise InsituError(f"{path}: not a trace.dat file")
    version = at.string()
    if version not in ("6", "7"):
        raise InsituError(f"{path}: trace.dat version {version[:20]!r} is not read", remedy="versions 6 and 7 are")
    if at.u8():
        raise InsituError(
            f"{path}: recorded on a big-endian machine, which insitu does not read",
            remedy="import the text of trace instead",
        )
    at.u8()  # the size of long in the target's user space
    found = TraceDat(path, data, _page_bytes(at.u32(), path), Budget(len(data)))
    if version == "7":
        _read_version_7(found, at)
    else:
        _read_version_6(found, at)
    if not found.buffers:
        raise InsituError(f"{path}: no trace data in the file")
    if sum(cpu.size for buffer in found.buffers for cpu in buffer.cpus) > len(data):
        raise at.damaged("pages of several CPUs are the same")
    return found


def _page_bytes(size: int, path: Path) -> int:
    least, most = _PAGE_BYTES
    if not least <= size <= most or size & (size - 1):
        raise InsituError(f"{path}: damaged trace.dat: pages of {size} bytes", remedy="record again")
    return size


# Version 6: everything in one order, options, then where the pages of each CPU are.


def _read_version_6(found: TraceDat, at: Cursor) -> None:
    _read_headers(found, at)
    _read_ftrace_events(found, at)
    _read_events(found, at)
    found.kallsyms = at.sized_text(at.u32())
    _read_printk(found, at)
    found.cmdlines = at.sized_text(at.u64())
    found.cpus = _cpu_count(at.u32(), at)
    kind = bytes(at.take(10))
    instances: list[tuple[int, str]] = []
    if kind == b"options  \0":
        for number, option in _options(at, version_7=False):
            body = Cursor(option, at.name)
            if number == Option.BUFFER:
                instances.append((body.u64(), body.string()))
            else:
                _read_option(found, number, body)
        kind = bytes(at.take(10))
    found.buffers.append(_version_6_buffer(found, at, kind, ""))
    for offset, name in instances:
        there = Cursor(found.data, at.name, offset)
        found.buffers.append(_version_6_buffer(found, there, bytes(there.take(10)), name))


def _version_6_buffer(found: TraceDat, at: Cursor, kind: bytes, name: str) -> TraceBuffer:
    if kind == b"latency  \0":
        return TraceBuffer(name, found.clock, found.page_bytes, [], is_text=True)
    if kind != b"flyrecord\0":
        raise at.damaged(f"unknown data {kind!r}")
    cpus = [CpuPages(cpu, at.u64(), at.u64()) for cpu in range(found.cpus)]
    return TraceBuffer(name, found.clock, found.page_bytes, _present(found, cpus))


# Version 7: sections that options lead to.


def _read_version_7(found: TraceDat, at: Cursor) -> None:
    found.decompress = decompressor(at.string(), str(found.path))
    at.string()  # the compressor's version
    offset, seen, count = at.u64(), set[int](), 0
    while offset and offset not in seen:
        seen.add(offset)
        body = section(found.data, offset, found.decompress, at.name, found.budget)
        options = list(_options(body, version_7=True))
        offset, count = 0, count + len(options)
        if count > _MOST_OPTIONS:
            raise at.damaged("too many options")
        for number, option in options:
            each = Cursor(option, at.name)
            if number == Option.DONE:
                offset = each.u64()
            elif number in _SECTIONS:
                place = each.u64()
                if place in seen:
                    raise at.damaged("a section that is there twice")
                seen.add(place)
                content = section(found.data, place, found.decompress, at.name, found.budget)
                _SECTIONS[number](found, content)
            elif number == Option.BUFFER:
                found.buffers.append(_version_7_buffer(found, each))
            elif number == Option.BUFFER_TEXT:
                each.u64()  # where the text is
                found.buffers.append(TraceBuffer(each.string(), each.string(), found.page_bytes, [], is_text=True))
            else:
                _read_option(found, number, each)


def _version_7_buffer(found: TraceDat, option: Cursor) -> TraceBuffer:
    header = Cursor(found.data, option.name, option.u64())
    flags = (header.u16(), header.u16())[1]
    name, clock = option.string(), option.string()
    page_bytes = _page_bytes(option.u32(), found.path)
    cpus = [CpuPages(option.u32(), option.u64(), option.u64()) for _ in range(_cpu_count(option.u32(), option))]
    compressed = bool(flags & 1)
    if compressed and found.decompress is None:
        raise option.damaged("compressed data without an algorithm")
    return TraceBuffer(name, clock, page_bytes, _present(found, cpus), compressed)


def _read_kallsyms(found: TraceDat, at: Cursor) -> None:
    found.kallsyms = at.sized_text(at.u32())


def _read_printk(_: TraceDat, at: Cursor) -> None:
    at.sized_text(at.u32())  # formats of trace_printk by their addresses


def _read_cmdlines(found: TraceDat, at: Cursor) -> None:
    found.cmdlines = at.sized_text(at.u64())


def _read_headers(found: TraceDat, at: Cursor) -> None:
    found.header_page = _header(at, "header_page")
    _header(at, "header_event")


def _header(at: Cursor, name: str) -> str:
    if at.string() != name:
        raise at.damaged(f"no {name}")
    return at.sized_text(at.u64()).decode(errors="replace")


def _read_ftrace_events(found: TraceDat, at: Cursor) -> None:
    _read_formats(found, at, "ftrace")


def _read_events(found: TraceDat, at: Cursor) -> None:
    for _ in range(_bounded(at.u32(), _MOST_EVENTS, "event systems", at)):
        _read_formats(found, at, at.string())


def _read_formats(found: TraceDat, at: Cursor, system: str) -> None:
    for _ in range(_bounded(at.u32(), _MOST_EVENTS, "events", at)):
        found.formats.append((system, at.sized_text(at.u64()).decode(errors="replace")))


_SECTIONS: Final[dict[int, Callable[["TraceDat", Cursor], None]]] = {
    Option.HEADER_INFO: _read_headers,
    Option.FTRACE_EVENTS: _read_ftrace_events,
    Option.EVENT_FORMATS: _read_events,
    Option.KALLSYMS: _read_kallsyms,
    Option.PRINTK: _read_printk,
    Option.CMDLINES: _read_cmdlines,
}


# What both versions have.


def _options(at: Cursor, *, version_7: bool) -> Iterator[tuple[int, memoryview]]:
    """(id, data) of each option; in version 7 also the last, DONE, which has data there."""
    for _ in range(_MOST_OPTIONS):
        if version_7 and not at.left:
            return
        number = at.u16()
        if number == Option.DONE and not version_7:
            return
        yield number, at.take(at.u32())
        if number == Option.DONE:
            return
    raise at.damaged("too many options")


def _read_option(found: TraceDat, number: int, at: Cursor) -> None:
    """An option that both versions have; those that say nothing about events are left out."""
    match number:
        case Option.DATE:
            found.date_ns = _wrapped(found.date_ns + _number(at.rest_text()) * 1000)
        case Option.OFFSET:
            found.offset_ns = _wrapped(found.offset_ns + _number(at.rest_text()))
        case Option.CPUSTAT:
            found.stats.append(at.rest_text())
        case Option.TRACECLOCK:
            chosen = re.search(r"\[([\w-]+)\]", at.rest_text())
            found.clock = chosen[1] if chosen else ""
        case Option.UNAME:
            found.uname = at.rest_text()
        case Option.CPUCOUNT:
            found.cpus = _cpu_count(at.u32(), at)
        case Option.TRACEID:
            found.id = at.u64()
        case Option.TIME_SHIFT:
            found.shift = read_time_shift(at)
        case Option.GUEST:
            name, id_ = at.string(), at.u64()
            found.guests[id_] = RecordedGuest(name, _host_tids(at))
        case Option.TSC2NSEC:
            found.tsc = (at.u32(), at.u32(), at.u64())


def _host_tids(at: Cursor) -> dict[int, int]:
    """By the guest's numbers of CPUs the host's threads that run them; trace-cmd writes 0 or -1 for unknown ones."""
    pairs = [(at.u32(), at.u32()) for _ in range(_cpu_count(at.u32(), at))]
    return {cpu: tid for cpu, tid in pairs if 0 < tid < _MOST_TIDS}


def _wrapped(value: int) -> int:
    """A sum as C's long long has it."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _number(text: str) -> int:
    """What strtoll makes of decimal or 0x... digits."""
    match = re.match(r"\s*(-?)(?:0x([0-9a-fA-F]{1,16})|(\d{1,19}))", text)
    if not match:
        return 0
    value = int(match[2], 16) if match[2] else int(match[3])
    return -value if match[1] else value - (1 << 64) * (value >> 63)


def _cpu_count(count: int, at: Cursor) -> int:
    return _bounded(count, _MOST_CPUS, "CPUs", at)


def _bounded(count: int, most: int, what: str, at: Cursor) -> int:
    if count > most:
        raise at.damaged(f"{count} {what}")
    return count


def _present(found: TraceDat, cpus: Sequence[CpuPages]) -> list[CpuPages]:
    """The CPUs that have data, each within the file: the rest of a file that was cut off is noted."""
    kept, have = [], len(found.data)
    for cpu, offset, size in cpus:
        if size and offset + size > have:
            found.notes.append(f"cut off: CPU {cpu} lacks {min(offset + size - have, size)} bytes")
        if size and offset < have:
            kept.append(CpuPages(cpu, offset, min(size, have - offset)))
    return kept
