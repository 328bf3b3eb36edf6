"""Export as a trace.dat, version 6, which every trace-cmd and KernelShark opens.

Holds the rows of the event tables whose formats the session keeps. What tables do not have is lost: the flags of
interrupts and preemption, and stacks. Kernel addresses have names only in a recording of this boot.
"""

import itertools
import struct
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.trace_dat_file import Option
from insitu.convert.formats.trace_dat_sections import MAGIC
from insitu.convert.formats.trace_page_writer import HEADER_EVENT, HEADER_PAGE, PAGE_BYTES, Bodies, bodies, pages
from insitu.convert.formats.trace_tables import event_tables, threads
from insitu.convert.trace_events import recorded_formats
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.tracefs import parse_format
from insitu.session.machines import machines
from insitu.symbols.kallsyms import Kallsyms, read_kallsyms

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["export_trace_dat"]

I64 = NDArray[np.int64]

_MOST_CPUS: Final = 1 << 12
_DEFAULT_CLOCK: Final = "mono"


class _Rows(NamedTuple):
    buffer: str
    ts_ns: I64
    cpu: I64
    records: Bodies


def export_trace_dat(session: "Session", options: ExportOptions) -> Iterator[bytes]:
    """The file of a session's trace events. Raises InsituError where it has none whose format is kept."""
    if len(machines(session).name) > 1:
        raise InsituError(
            f"{session.name}: of a host and its guests, and a trace.dat is of one machine",
            remedy="export --format perfetto, or the session of one of them",
        )
    formats = recorded_formats(session)
    tid = threads(session).tid
    found: list[_Rows] = []
    for events in event_tables(session, len(tid)):
        if events.table in formats:
            category, name, text = formats[events.table]
            prefix = events.table.removeprefix("event.").rpartition(".")[0]
            made = bodies(parse_format(text, f"{category}:{name}"), tid[events.utid], events.fields)
            found.append(_Rows(prefix, events.ts_ns, events.cpu, made))
    if not found:
        raise InsituError(
            f"{session.name}: no trace events of the kernel to export",
            remedy="record with insitu events, or export --format perfetto",
        )
    cpus = max(session.manifest.cpus, *(int(each.cpu.max()) + 1 for each in found))
    if cpus > _MOST_CPUS:
        raise InsituError(f"{session.name}: events of CPU {cpus - 1}, more than a trace.dat is written for")
    yield from _file(session, formats, found, cpus)


def _file(
    session: "Session", formats: dict[str, tuple[str, str, str]], found: list[_Rows], cpus: int
) -> Iterator[bytes]:
    head = MAGIC + b"6\0" + struct.pack("<BBI", 0, 8, PAGE_BYTES)
    for name, text in (("header_page", HEADER_PAGE), ("header_event", HEADER_EVENT)):
        head += name.encode() + b"\0" + struct.pack("<Q", len(text)) + text.encode()
    head += _formats(formats)
    names = "".join(
        f"{tid} {name}\n" for tid, name in session["thread"].select("tid", "name").rows() if tid and name
    ).encode()
    symbols = _symbols(session, formats)
    head += struct.pack("<I", len(symbols)) + symbols + struct.pack("<I", 0)  # no formats of trace_printk
    head += struct.pack("<Q", len(names)) + names + struct.pack("<I", cpus)
    buffers = sorted({each.buffer for each in found} | {""})
    data = {buffer: _pages(found, buffer, cpus) for buffer in buffers}
    given = _options(session, cpus)
    # Where the pages are depends on the size of what precedes them, which does not depend on where they are.
    size = len(_index(head, given, dict.fromkeys(buffers, 0), data))
    offsets: dict[str, int] = {}
    for buffer in buffers:
        offsets[buffer] = size = -(-size // PAGE_BYTES) * PAGE_BYTES
        size += sum(map(len, data[buffer]))
    index = _index(head, given, offsets, data)
    yield index + bytes(-len(index) % PAGE_BYTES)
    for buffer in buffers:
        yield from data[buffer]


def _symbols(session: "Session", tables: Collection[str]) -> bytes:
    """Lines as in /proc/kallsyms that name the addresses in the events: by the session, else by this kernel if it was
    recorded on it."""
    kernel = _running_kernel(session)
    symbols: dict[int, str] = {}
    for table in tables:
        columns = session.database.table(table).columns if table in session.tables else ()
        names = {column.name for column in columns}
        for column in columns:
            if column.type != "kernel_address":
                continue
            known = [f"{column.name}_function", f"{column.name}_offset"]
            if names.issuperset(known):
                for address, function, offset in session[table].select(column.name, *known).unique().rows():
                    if function and not function.startswith("0x"):
                        symbols[address - offset] = function
            elif kernel is not None:
                for address in session[table][column.name].unique().to_list():
                    if symbol := kernel.symbol(address):
                        symbols[address - symbol[1]] = symbol[0]
    return "".join(f"{address:016x} T {name}\n" for address, name in sorted(symbols.items())).encode()


def _running_kernel(session: "Session") -> Kallsyms | None:
    """The symbols of the kernel that was recorded; None if it is not this one, or shows none."""
    if not session.manifest.live(procfs):
        return None
    try:
        return Kallsyms(read_kallsyms())
    except OSError:
        return None


def _index(
    head: bytes, given: list[tuple[int, bytes]], offsets: dict[str, int], data: dict[str, list[bytes]]
) -> bytes:
    """All up to the pages: options, and where the pages of each CPU are, by buffer."""
    others = [buffer for buffer in data if buffer]
    size = len(head) + len(_described(given)) + sum(6 + 8 + len(name.encode()) + 1 for name in others)
    places = {buffer: _places(offsets[buffer], data[buffer]) for buffer in data}
    at = size + len(places[""])
    for name in others:
        given = [*given, (Option.BUFFER, struct.pack("<Q", at) + name.encode() + b"\0")]
        at += len(places[name])
    return head + _described(given) + places[""] + b"".join(places[name] for name in others)


def _described(options: list[tuple[int, bytes]]) -> bytes:
    packed = b"".join(struct.pack("<HI", number, len(option)) + option for number, option in options)
    return b"options  \0" + packed + struct.pack("<H", 0)


def _places(offset: int, cpus: list[bytes]) -> bytes:
    found = b"flyrecord\0"
    for each in cpus:
        found += struct.pack("<QQ", offset, len(each))
        offset += len(each)
    return found


def _formats(formats: dict[str, tuple[str, str, str]]) -> bytes:
    """The formats of ftrace's own events, then of the others by system; each once."""
    by_system: dict[str, dict[str, bytes]] = {"ftrace": {}}
    for category, name, text in formats.values():
        by_system.setdefault(category, {})[name] = text.encode(errors="replace")
    own = by_system.pop("ftrace")
    found = _counted(own) + struct.pack("<I", len(by_system))
    for system, texts in by_system.items():
        found += system.encode() + b"\0" + _counted(texts)
    return found


def _counted(texts: dict[str, bytes]) -> bytes:
    return struct.pack("<I", len(texts)) + b"".join(struct.pack("<Q", len(text)) + text for text in texts.values())


def _options(session: "Session", cpus: int) -> list[tuple[int, bytes]]:
    manifest = session.manifest
    clock = next((str(each["options"]["clock"]) for each in manifest.sources if each.get("kind") == "trace.dat"), "")
    uname = f"Linux {manifest.host} {manifest.kernel} {manifest.machine}"
    found: list[tuple[int, bytes]] = [
        (Option.TRACECLOCK, f"[{clock or _DEFAULT_CLOCK}]\n\0".encode()),
        (Option.UNAME, uname.encode(errors="replace") + b"\0"),
        (Option.VERSION, f"insitu {manifest.insitu}\0".encode()),
        (Option.CPUCOUNT, struct.pack("<I", cpus)),
    ]
    lost = session.sql("select cpu, sum(count)::bigint from lost where cpu >= 0 group by cpu order by cpu")
    return found + [(Option.CPUSTAT, f"CPU: {cpu}\noverrun: {count}\n\0".encode()) for cpu, count in lost.rows()]


def _pages(found: list[_Rows], buffer: str, cpus: int) -> list[bytes]:
    """The pages of each CPU."""
    own = [each for each in found if each.buffer == buffer]
    if not own:
        return [b""] * cpus
    shifts = np.cumsum([0, *(len(each.records.memory) for each in own)])
    memory = np.concatenate([each.records.memory for each in own])
    at = np.concatenate([each.records.at + shift for each, shift in zip(own, shifts, strict=False)])
    size = np.concatenate([each.records.size for each in own])
    ts_ns, cpu = (np.concatenate([getattr(each, name) for each in own]) for name in ("ts_ns", "cpu"))
    cpu = np.maximum(cpu, 0)
    order = np.lexsort((ts_ns, cpu))
    bounds = np.searchsorted(cpu[order], np.arange(cpus + 1)).tolist()
    result = []
    for low, high in itertools.pairwise(bounds):
        rows = order[low:high]
        result.append(pages(ts_ns[rows], Bodies(memory, at[rows], size[rows])) if len(rows) else b"")
    return result
