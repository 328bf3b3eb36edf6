"""Records of perf events that are not samples: their layouts, and one reader and one writer for all of them.

Layouts are those of enum perf_event_type in include/uapi/linux/perf_event.h, under the C names. Nothing here imports
numpy: a script reads such records while it runs.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from insitu.kernel.perf_event import Misc, Record, Sample

__all__ = [
    "BUILD_ID",
    "HEADER",
    "LAYOUTS",
    "Layout",
    "SideRecord",
    "pack",
    "parse",
    "records",
    "sample_id",
    "trailer_fields",
]

HEADER: Final = struct.Struct("<IHH")
"""struct perf_event_header: type, misc, size."""

_MAX_NAME_BYTES: Final = 4096  # PATH_MAX; a record's size has 16 bits
_MAX_LOST: Final = 2**62
_MAX_BUILD_ID_BYTES: Final = 20

_MMAP_BUILD_ID: Final = int(Misc.MMAP_BUILD_ID)  # a flag's own "&" makes another flag, slowly

_CODES: Final = {"u8": "B", "u16": "H", "u32": "I", "s32": "i", "u64": "Q", "build_id": "20s"}


# SideRecord's names for fields; those of the C types that it has no use for are left out.
_NAMES: Final = {
    **{name: name for name in ("pid", "tid", "ppid", "build_id", "maj", "min", "ino")},
    "addr": "start",
    "len": "length",
    "pgoff": "offset",
    "lost": "lost",
    "build_id_size": "size",
}


class Layout:
    """The fixed fields of a type of record; ``text`` is the name of the zero-ended string after them, if any."""

    def __init__(self, declaration: str, text: str = "") -> None:
        """``declaration`` has a C type and a name for each field, divided by semicolons."""
        pairs = [field.split() for field in declaration.split(";")]
        self.fields: Final = tuple(name for _, name in pairs)
        self.names: Final = tuple(_NAMES.get(name, "") for name in self.fields)
        self.text: Final = text
        self.struct: Final = struct.Struct("<" + "".join(_CODES[kind] for kind, _ in pairs))


_FORK: Final = Layout("s32 pid; s32 ppid; s32 tid; s32 ptid; u64 time")

LAYOUTS: Final = {
    Record.MMAP: Layout("s32 pid; s32 tid; u64 addr; u64 len; u64 pgoff", "filename"),
    Record.LOST: Layout("u64 id; u64 lost"),
    Record.COMM: Layout("s32 pid; s32 tid", "comm"),
    Record.EXIT: _FORK,
    Record.THROTTLE: Layout("u64 time; u64 id; u64 stream_id"),
    Record.FORK: _FORK,
    Record.MMAP2: Layout(
        "s32 pid; s32 tid; u64 addr; u64 len; u64 pgoff; u32 maj; u32 min; u64 ino; u64 ino_generation; "
        "u32 prot; u32 flags",
        "filename",
    ),
    Record.LOST_SAMPLES: Layout("u64 lost"),
}
"""By type. See BUILD_ID for records of type MMAP2 with Misc.MMAP_BUILD_ID."""

BUILD_ID: Final = Layout(
    "s32 pid; s32 tid; u64 addr; u64 len; u64 pgoff; u8 build_id_size; u8 reserved_1; u16 reserved_2; "
    "build_id build_id; u32 prot; u32 flags",
    "filename",
)
"""MMAP2 with Misc.MMAP_BUILD_ID: a build id instead of device and inode."""

_TRAILER: Final = (Sample.TID, Sample.TIME, Sample.ID, Sample.STREAM_ID, Sample.CPU, Sample.IDENTIFIER)
"""struct sample_id, which ends every record where ``sample_id_all`` is set: a word for each field."""


class SideRecord(NamedTuple):
    """One record that is not a sample. ``ts_ns`` is 0 where the stream carries no times, ``cpu`` -1 no CPUs."""

    type: Record
    ts_ns: int
    cpu: int
    misc: int
    pid: int = 0
    tid: int = 0
    ppid: int = 0
    start: int = 0
    length: int = 0
    offset: int = 0
    text: str = ""  # path of a mapping, or a thread's name
    build_id: str = ""
    inode: tuple[int, int, int] = (0, 0, 0)  # major, minor, inode number
    lost: int = 0  # how many records


def trailer_fields(sample_type: int) -> tuple[Sample, ...]:
    """The fields of the struct sample_id of events with this sample_type, in order."""
    return tuple(bit for bit in _TRAILER if sample_type & bit)


def parse(
    kind: int, misc: int, body: bytes, trailer: tuple[Sample, ...] = (), *, errors: str = "replace"
) -> SideRecord | None:
    """The record of type ``kind`` with ``body`` after its header; None if it is of another type or too short.

    ``trailer`` are the fields of the struct sample_id at its end; ``errors`` is how names are decoded (bytes.decode).
    """
    layout = BUILD_ID if kind == Record.MMAP2 and misc & _MMAP_BUILD_ID else _LAYOUT_OF.get(kind)
    end = len(body) - 8 * len(trailer)
    if layout is None or layout.struct.size > end:
        return None
    ts_ns, cpu = _time_and_cpu(body, end, trailer)
    found: dict[str, Any] = dict(zip(layout.names, layout.struct.unpack_from(body), strict=True))
    found.pop("", None)
    if layout.text:
        found["text"] = body[layout.struct.size : end].split(b"\0", 1)[0].decode("utf-8", errors)
    if "lost" in found:
        found["lost"] = min(found["lost"], _MAX_LOST)
    if layout is BUILD_ID:
        found["build_id"] = found["build_id"][: min(found.pop("size"), _MAX_BUILD_ID_BYTES)].hex()
    elif kind == Record.MMAP2:
        found["inode"] = (found.pop("maj"), found.pop("min"), found.pop("ino"))
    return SideRecord(Record(kind), ts_ns, cpu, misc, **found)


_LAYOUT_OF: Final = {int(kind): layout for kind, layout in LAYOUTS.items()}


def _time_and_cpu(body: bytes, at: int, trailer: tuple[Sample, ...]) -> tuple[int, int]:
    ts_ns, cpu = 0, -1
    for bit in trailer:
        if bit is Sample.TIME:
            ts_ns = min(int.from_bytes(body[at : at + 8], "little"), 2**63 - 1)
        elif bit is Sample.CPU:
            cpu = int.from_bytes(body[at : at + 4], "little", signed=True)
        at += 8
    return ts_ns, cpu


def records(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, misc and body of each record of a ring's bytes, up to the first that is not whole."""
    at = 0
    while at + HEADER.size <= len(data):
        kind, misc, size = HEADER.unpack_from(data, at)
        if size < HEADER.size or at + size > len(data):
            return
        yield kind, misc, data[at + HEADER.size : at + size]
        at += size


def pack(kind: Record, misc: int, text: bytes = b"", trailer: bytes = b"", **fields: int) -> bytes:
    """A whole record of ``fields`` (C names; 0 by default), its string, and the bytes of its struct sample_id."""
    layout = LAYOUTS[kind]
    body = layout.struct.pack(*(fields.get(name, 0) for name in layout.fields))
    if layout.text:
        name = text[:_MAX_NAME_BYTES]
        body += name + bytes(8 - len(name) % 8)  # at least one zero, and whole 64-bit words
    body += trailer
    return HEADER.pack(kind, misc, HEADER.size + len(body)) + body


def sample_id(sample_type: int, *, pid: int, tid: int, time_ns: int, event_id: int, cpu: int) -> bytes:
    """The struct sample_id of an event with this sample_type."""
    values = {
        Sample.TID: (pid & 0xFFFF_FFFF) | (tid & 0xFFFF_FFFF) << 32,
        Sample.TIME: time_ns,
        Sample.ID: event_id,
        Sample.STREAM_ID: event_id,
        Sample.CPU: cpu,
        Sample.IDENTIFIER: event_id,
    }
    return b"".join(values[bit].to_bytes(8, "little") for bit in trailer_fields(sample_type))
