"""perf.data files: perf's file mode, its pipe mode, and either with zstd-compressed records.

Format: tools/perf/Documentation/perf.data-file-format.txt.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from insitu.convert.formats.perf_records import EventAttr, ToolRecord
from insitu.convert.raw import RawRecording, Windows
from insitu.errors import InsituError
from insitu.session.manifest import FORMAT, Manifest

__all__ = ["is_perf_data", "read_perf_data"]

MAGIC: Final = b"PERFILE2"
_SWAPPED: Final = MAGIC[::-1]

_HEADER = struct.Struct("<8sQQQQQQQQ32s")  # struct perf_file_header
_SECTION = struct.Struct("<QQ")  # struct perf_file_section
_RECORD = struct.Struct("<IHH")  # struct perf_event_header
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

# enum in tools/perf/util/header.h
_TRACING_DATA, _BUILD_ID, _HOSTNAME, _OSRELEASE, _ARCH, _NRCPUS, _CMDLINE, _EVENT_DESC = 1, 2, 3, 4, 6, 7, 11, 12
_AUXTRACE, _DIR_FORMAT, _COMPRESSED = 18, 24, 27
_FEATURES = 256

_MOST_EXPANSION: Final = 1 << 10  # zstd-compressed records may not grow by more than this factor


def is_perf_data(head: bytes) -> bool:
    """Whether a file that begins with ``head`` claims to be perf.data (of either byte order)."""
    return head[:8] in (MAGIC, _SWAPPED)


def read_perf_data(path: str | Path) -> RawRecording:
    """Read a perf.data file (its pages are mapped, not copied, while it is not compressed).

    Raises InsituError when it is not perf.data or nothing of it can be used. A file that is cut off gives the
    records that are whole; ``RawRecording.torn`` counts the bytes after them.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 16:
            raise InsituError(f"{path}: not a perf.data file: only {size} bytes")
        memory = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    magic = bytes(memory[:8])
    if magic == _SWAPPED:
        raise InsituError(
            f"{path}: recorded on a big-endian machine, which insitu does not read", remedy="convert with perf inject"
        )
    if magic != MAGIC:
        raise InsituError(f"{path}: not a perf.data file: it begins with {magic!r}")
    try:
        reader = _read_pipe if _U64.unpack_from(memory, 8)[0] == 16 else _read_file
        recording = reader(path, memory)
    except (struct.error, IndexError):
        raise InsituError(f"{path}: cut off or damaged within its header", remedy="record it again") from None
    if not recording.attrs:
        raise InsituError(f"{path}: names no event, so its samples cannot be decoded")
    return recording


@dataclass
class _Features:
    """What the feature sections of either mode say."""

    info: dict[str, object]
    build_ids: dict[str, str]
    names: dict[tuple[int, ...], str]  # ids of an event -> its name

    @classmethod
    def none(cls) -> "_Features":
        return cls({}, {}, {})

    def manifest(self) -> Manifest:
        """What the file says of the recording."""
        return Manifest.parse({"format": FORMAT, **self.info}, "perf.data")

    def read(self, feature: int, body: memoryview) -> None:
        """Take in one feature section; one that is malformed is passed over."""
        strings = {_HOSTNAME: "host", _OSRELEASE: "kernel", _ARCH: "machine"}
        try:
            if feature in strings:
                self.info[strings[feature]] = _string(body)[0]
            elif feature == _NRCPUS:
                self.info["cpus"] = _U32.unpack_from(body)[0]
            elif feature == _CMDLINE:
                self.info["command"] = list(_strings(body))
            elif feature == _BUILD_ID:
                self.build_ids.update(_build_ids(body))
            elif feature == _EVENT_DESC:
                self.names.update(_event_names(body))
        except (struct.error, IndexError):
            return


def _read_file(path: Path, memory: memoryview) -> RawRecording:
    fields = _HEADER.unpack_from(memory)
    _magic, _size, attr_size, attrs_at, attrs_size, data_at, data_size = fields[:7]
    flags = int.from_bytes(fields[9], "little")
    if flags >> _DIR_FORMAT & 1:
        raise InsituError(f"{path}: recorded with perf record --threads (a directory), which insitu does not read")
    if not 64 + 16 <= attr_size <= 4096:
        raise InsituError(f"{path}: impossible size of an event description ({attr_size} bytes)")
    features = _Features.none()
    if data_size:
        for feature, section in _feature_sections(memory, flags, data_at + data_size):
            features.read(feature, section)
    else:
        data_size = len(memory) - data_at  # perf record was killed before it wrote the header again
        features.info["notes"] = ["perf record did not end properly"]
    attrs = []
    for at in range(attrs_at, min(attrs_at + attrs_size, len(memory)) - attr_size + 1, attr_size):
        raw = bytes(memory[at : at + attr_size - 16])
        ids_at, ids_size = _SECTION.unpack_from(memory, at + attr_size - 16)
        ids = _ids(memory[ids_at : ids_at + ids_size])
        attrs.append(EventAttr.parse(raw, features.names.get(ids, ""), ids))
    data = memory[data_at : data_at + data_size]
    missing = data_size - len(data)
    if data_at & 7 or flags >> _COMPRESSED & 1 or flags >> _AUXTRACE & 1 or flags >> _TRACING_DATA & 1:
        return _from_mixed(path, data, attrs, features, missing)
    return RawRecording([Windows(data)], attrs, features.manifest(), features.build_ids, cut_bytes=missing)


def _read_pipe(path: Path, memory: memoryview) -> RawRecording:
    return _from_mixed(path, memory[16:], [], _Features.none(), 0)


def _feature_sections(memory: memoryview, flags: int, at: int) -> Iterator[tuple[int, memoryview]]:
    for feature in range(_FEATURES):
        if flags >> feature & 1:
            if at + _SECTION.size > len(memory):
                return
            start, size = _SECTION.unpack_from(memory, at)
            at += _SECTION.size
            yield feature, memory[start : start + size]


def _from_mixed(
    path: Path, data: memoryview, attrs: list[EventAttr], features: _Features, missing: int
) -> RawRecording:
    """A stream in which perf's own records, or compressed ones, stand between those of the kernel."""
    plain, packed = bytearray(), bytearray()
    described: list[tuple[bytes, tuple[int, ...]]] = []
    at = 0
    while at + 8 <= len(data):
        kind, _misc, size = _RECORD.unpack_from(data, at)
        if size < 8 or at + size > len(data):
            break
        body = data[at + 8 : at + size]
        at += size
        if kind == ToolRecord.COMPRESSED:
            packed += body
        elif kind == ToolRecord.COMPRESSED2:
            packed += body[8 : 8 + _U64.unpack_from(body)[0]]
        elif kind == ToolRecord.HEADER_ATTR:
            attr_size = min(max(_U32.unpack_from(body, 4)[0], 64), len(body))
            described.append((bytes(body[:attr_size]), _ids(body[attr_size:])))
        elif kind == ToolRecord.HEADER_FEATURE:
            features.read(_U64.unpack_from(body)[0], body[8:])
        elif kind == ToolRecord.HEADER_BUILD_ID:
            features.build_ids.update(_build_ids(data[at - size : at]))
        elif kind == ToolRecord.HEADER_TRACING_DATA:
            at += (_U32.unpack_from(body)[0] + 7) & ~7  # follows the record, outside its size
        elif kind == ToolRecord.AUXTRACE:
            at += _U64.unpack_from(body)[0]
        elif size & 7 == 0:
            plain += data[at - size : at]
    attrs = attrs + [EventAttr.parse(raw, features.names.get(ids, ""), ids) for raw, ids in described]
    streams = [Windows(bytes(plain))]
    if packed:
        streams.append(Windows(_decompressed(path, bytes(packed))))
    torn = max(0, len(data) - at)
    return RawRecording(streams, attrs, features.manifest(), features.build_ids, cut_bytes=missing + torn)


def _decompressed(path: Path, packed: bytes) -> bytes:
    """The records of all COMPRESSED records: one zstd stream, flushed but not ended at each of them."""
    import zstandard

    most = max(1 << 28, _MOST_EXPANSION * len(packed))
    parts, total = [], 0
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    try:
        while part := reader.read(1 << 22):
            parts.append(part)
            total += len(part)
            if total > most:
                raise InsituError(f"{path}: compressed records grow beyond {most >> 20} MiB: refused")
    except zstandard.ZstdError as error:
        if not parts:
            raise InsituError(f"{path}: compressed records cannot be read: {error}") from None
    return b"".join(parts)


def _ids(raw: "memoryview | bytes") -> tuple[int, ...]:
    whole = bytes(raw[: len(raw) & ~7])
    return tuple(np.frombuffer(whole, "<u8").tolist())


def _string(body: memoryview, at: int = 0) -> tuple[str, int]:
    """struct perf_header_string: a length, then text padded with zeros. Also where the next field begins."""
    (size,) = _U32.unpack_from(body, at)
    end = min(at + 4 + size, len(body))
    return bytes(body[at + 4 : end]).split(b"\0", 1)[0].decode("utf-8", "replace"), end


def _strings(body: memoryview) -> Iterator[str]:
    (count,) = _U32.unpack_from(body)
    at = 4
    for _ in range(min(count, 1 << 16)):
        text, at = _string(body, at)
        yield text


def _build_ids(body: memoryview) -> Iterator[tuple[str, str]]:
    """Path and build id of each struct perf_record_header_build_id."""
    at = 0
    while at + 36 <= len(body):
        _kind, misc, size = _RECORD.unpack_from(body, at)
        if size < 36 or at + size > len(body):
            return
        length = body[at + 8 + 4 + 20] if misc & (1 << 15) else 20  # PERF_RECORD_MISC_BUILD_ID_SIZE
        build_id = bytes(body[at + 12 : at + 12 + min(length, 20)]).hex()
        path = bytes(body[at + 36 : at + size]).split(b"\0", 1)[0].decode("utf-8", "replace")
        yield path, build_id
        at += size


def _event_names(body: memoryview) -> Iterator[tuple[tuple[int, ...], str]]:
    count, attr_size = struct.unpack_from("<II", body)
    at = 8
    for _ in range(min(count, 1 << 12)):
        at += attr_size
        (ids,) = _U32.unpack_from(body, at)
        name, at = _string(body, at + 4)
        yield _ids(body[at : at + 8 * min(ids, 1 << 16)]), name.rstrip(":p ") or name
        at += 8 * ids
