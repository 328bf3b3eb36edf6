"""perf.data files: perf's file mode, its pipe mode, and either with zstd-compressed records.

Format: tools/perf/Documentation/perf.data-file-format.txt.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

from insitu.convert.file_bytes import FileBytes
from insitu.convert.formats.perf_features import Features, build_ids_of, event_ids, feature_sections
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import WINDOW_BYTES, Stream, ToolRecord, walk_chunks, walk_windows
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.source_file import opened
from insitu.convert.perf import convert_perf, is_this_boot
from insitu.convert.raw import RawRecording, Windows, window_bytes
from insitu.errors import InsituError
from insitu.kernel.perf_records import HEADER
from insitu.session.manifest import FORMAT, Manifest
from insitu.session.writer import SessionWriter

__all__ = ["PerfData", "import_perf_data", "is_perf_data", "open_perf_data", "read_perf_data"]

MAGIC: Final = b"PERFILE2"
_SWAPPED: Final = MAGIC[::-1]

_FILE_HEADER = struct.Struct("<8sQQQQQQQQ32s")  # struct perf_file_header
_SECTION = struct.Struct("<QQ")  # struct perf_file_section
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

_AUXTRACE, _DIR_FORMAT, _COMPRESSED = 18, 24, 27  # HEADER_* in tools/perf/util/header.h

_MOST_EXPANSION: Final = 1 << 10  # zstd-compressed records may not grow by more than this factor
_LIKELY_EXPANSION: Final = 8
_READ_BYTES: Final = 1 << 20  # decompressed at once
_SCANNED_BYTES: Final = 1 << 20
_MOST_IDS_BYTES: Final = 8 << 20  # a machine has an id for each of its CPUs


def is_perf_data(head: bytes) -> bool:
    """Whether a file that begins with ``head`` claims to be perf.data (of either byte order)."""
    return head[:8] in (MAGIC, _SWAPPED)


def read_perf_data(path: str | Path) -> RawRecording:
    """Reads a perf.data file as a whole (see open_perf_data for what is read, and what is raised)."""
    return open_perf_data(path).recording()


def import_perf_data(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read, unwind and symbolize a perf.data file."""
    recording = read_perf_data(path)
    known = recording.manifest
    recording.live = is_this_boot(path, known)
    attr = recording.attrs[0]
    sampled = {"frequency_hz": attr.sample_period} if attr.freq else {}
    writer.manifest = writer.manifest.changed(
        host=known.host,
        kernel=known.kernel,
        machine=known.machine,
        cpus=known.cpus,
        command=known.command,
        sources=[{"id": recording.source, "kind": "perf", "options": sampled}],
    )
    convert_perf(recording, writer, as_perf=options.as_perf, symfs=options.symfs)
    writer.notes += [*known.notes, *recording.notes]


def open_perf_data(path: str | Path) -> "PerfData":
    """Open a perf.data file, or the directory that ``perf record --threads`` makes. Files are read piece by piece.

    A file that is cut off gives the records that are whole; ``cut_bytes`` and ``Stream.torn`` count the rest.
    Raises InsituError when it is not perf.data or names no event.
    """
    path = Path(path)
    main = path / "data" if path.is_dir() else path
    if main != path and not main.is_file():
        raise InsituError(f"{path}: not a perf.data directory: it has no file named data")
    memory = _opened(main)
    if len(memory) < 16:
        raise InsituError(f"{main}: not a perf.data file: only {len(memory)} bytes")
    magic = bytes(memory[:8])
    if magic == _SWAPPED:
        raise InsituError(
            f"{main}: recorded on a big-endian machine, which insitu does not read",
            remedy="import the text of perf script instead",
        )
    if magic != MAGIC:
        raise InsituError(f"{main}: not a perf.data file: it begins with {magic!r}")
    try:
        reader = _open_pipe if _U64.unpack(memory[8:16])[0] == 16 else _open_file
        data = reader(main, memory)
    except (struct.error, IndexError):
        raise InsituError(f"{main}: the header is damaged or cut off", remedy="record again") from None
    if not data.attrs:
        raise InsituError(f"{main}: no events in the header, so samples cannot be decoded")
    return data


@dataclass
class PerfData:
    """An open perf.data file: its events, what its header says, and its records window by window.

    ``build_ids`` (path to build id) and ``notes`` are complete after the last window.
    """

    path: Path
    attrs: list[EventAttr]
    info: dict[str, object]
    build_ids: dict[str, str]
    parts: "list[_Part]" = field(default_factory=list)
    cut_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def recording(self) -> RawRecording:
        """The recording, for conversion."""
        manifest = Manifest.parse({"format": FORMAT, **self.info}, str(self.path))
        size = window_bytes(len(self.parts))
        streams = [Windows(partial(self._windows, part, size), part.fits(size)) for part in self.parts]
        return RawRecording(streams, self.attrs, manifest, self.build_ids, cut_bytes=self.cut_bytes, notes=self.notes)

    def windows(self, window_bytes: int = WINDOW_BYTES) -> Iterator[Stream]:
        """The records in streams of some ``window_bytes`` each. Within a part of the file they are in its order.

        Memory is bounded by the window, if the caller keeps none. Raises InsituError when the records are compressed
        and cannot be read.
        """
        for part in self.parts:
            yield from self._windows(part, window_bytes)

    def _windows(self, part: "_Part", window_bytes: int) -> Iterator[Stream]:
        yield from self._plain(part, window_bytes)
        if part.packed:
            yield from walk_chunks(self._unpacked(part, window_bytes))

    def _plain(self, part: "_Part", window_bytes: int) -> Iterator[Stream]:
        for data in part.gathered(window_bytes):
            for stream in walk_windows(data, window_bytes):
                memory = stream.words.view(np.uint8)
                for row in np.flatnonzero(stream.type == ToolRecord.HEADER_BUILD_ID).tolist():
                    start = int(stream.at[row]) * 8
                    self.build_ids.update(build_ids_of(memory[start : start + int(stream.size[row])].data))
                yield stream

    def _unpacked(self, part: "_Part", window_bytes: int) -> Iterator[bytes]:
        """The records of all COMPRESSED records: one zstd stream, flushed but not ended at each of them."""
        import zstandard

        source = _Joined(part.data, part.packed)
        most = max(1 << 28, _MOST_EXPANSION * source.size)
        reader = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", source), read_across_frames=True)
        window = bytearray()
        total = 0
        try:
            while piece := reader.read(_READ_BYTES):
                window += piece
                total += len(piece)
                if total > most:
                    raise InsituError(f"{self.path}: compressed records grow beyond {most >> 20} MiB: refused")
                if len(window) >= window_bytes:
                    yield bytes(window)
                    window.clear()
        except zstandard.ZstdError as error:
            if not total:
                raise InsituError(f"{self.path}: compressed records cannot be read: {error}") from None
            self.notes.append(f"compressed records are damaged after {total} bytes; the rest is missing")
        yield bytes(window)


@dataclass
class _Part:
    """A run of records in a file: the kernel's own (``plain``), compressed ones (``packed``); byte ranges of both."""

    data: FileBytes
    plain: list[tuple[int, int]]
    packed: list[tuple[int, int]] = field(default_factory=list)

    def fits(self, window_bytes: int) -> bool:
        """Whether all of its records, decompressed, are likely to fit into one window."""
        return len(self.data) * (_LIKELY_EXPANSION if self.packed else 1) <= window_bytes

    def gathered(self, window_bytes: int) -> Iterator[memoryview | FileBytes]:
        """The plain records in few pieces: one range as it is, many short ones copied together."""
        waiting = bytearray()
        for low, high in self.plain:
            if len(self.plain) > 1 and high - low < window_bytes:
                waiting += self.data[low:high]
                if len(waiting) < window_bytes:
                    continue
                low = high
            if waiting:
                yield memoryview(bytes(waiting))
                waiting.clear()
            if low < high:
                yield self.data.part(low, high)
        if waiting:
            yield memoryview(bytes(waiting))


class _Joined:
    """Byte ranges as one file to read from."""

    def __init__(self, data: FileBytes, ranges: list[tuple[int, int]]) -> None:
        self.size = sum(high - low for low, high in ranges)
        self._data = data
        self._ranges = iter(ranges)
        self._low = self._high = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size``; empty at the end."""
        while self._low == self._high:
            following = next(self._ranges, None)
            if following is None:
                return b""
            self._low, self._high = following
        end = self._high if size < 0 else min(self._high, self._low + size)
        piece = bytes(self._data[self._low : end])
        self._low = end
        return piece


def _opened(path: Path) -> FileBytes:
    return FileBytes(opened(path))


def _open_file(path: Path, memory: FileBytes) -> PerfData:
    fields = _FILE_HEADER.unpack(memory[: _FILE_HEADER.size])
    _magic, _size, attr_size, attrs_at, attrs_size, data_at, data_size = fields[:7]
    flags = int.from_bytes(fields[9], "little")
    if not 64 + 16 <= attr_size <= 4096:
        raise InsituError(f"{path}: invalid size of an event's attributes ({attr_size} bytes)")
    features = Features.none()
    if data_size:
        for feature, section in feature_sections(memory, flags, data_at + data_size):
            features.read(feature, section)
    else:
        data_size = len(memory) - data_at  # perf record was killed before it wrote the header again
        features.info["notes"] = ["perf record was killed: the header is incomplete"]
    attrs = []
    for at in range(attrs_at, min(attrs_at + attrs_size, len(memory)) - attr_size + 1, attr_size):
        raw = bytes(memory[at : at + attr_size - 16])
        ids_at, ids_size = _SECTION.unpack(memory[at + attr_size - 16 : at + attr_size])
        ids = event_ids(memory[ids_at : ids_at + min(ids_size, _MOST_IDS_BYTES)])
        attrs.append(EventAttr.parse(raw, features.names.get(ids, ""), ids))
    data = PerfData(path, attrs, features.info, features.build_ids)
    pieces = [memory.part(data_at, data_at + data_size)]
    data.cut_bytes = max(0, data_size - len(pieces[0]))
    if flags >> _DIR_FORMAT & 1:
        pieces += [_opened(file) for file in _thread_files(path)]
    described: list[tuple[bytes, tuple[int, ...]]] = []
    for piece in pieces:
        if flags >> _COMPRESSED & 1 or flags >> _AUXTRACE & 1:
            _scan(piece, data, features, described)
        elif len(piece):
            data.parts.append(_Part(piece, [(0, len(piece))]))
    return data


def _thread_files(path: Path) -> list[Path]:
    """data.0, data.1 ... beside a directory's file "data": a file for each thread of perf record."""
    files = [file for file in path.parent.glob("data.*") if file.suffix[1:].isdigit() and file.is_file()]
    return sorted(files, key=lambda file: int(file.suffix[1:]))


def _open_pipe(path: Path, memory: FileBytes) -> PerfData:
    features = Features.none()
    data = PerfData(path, [], features.info, features.build_ids)
    described: list[tuple[bytes, tuple[int, ...]]] = []
    _scan(memory.part(16, len(memory)), data, features, described)
    data.attrs = [EventAttr.parse(raw, features.names.get(ids, ""), ids) for raw, ids in described]
    return data


def _scan(
    memory: FileBytes, data: PerfData, features: Features, described: list[tuple[bytes, tuple[int, ...]]]
) -> None:
    """Add a part in which perf's own records, or compressed ones, stand between those of the kernel.

    Takes in what perf's records say: features, and in pipe mode the events, which ``described`` collects.
    """
    plain: list[tuple[int, int]] = []
    packed: list[tuple[int, int]] = []
    own = {int(kind) for kind in ToolRecord}
    begin = at = read_at = 0
    read = memory[:_SCANNED_BYTES]
    while at + HEADER.size <= len(memory):
        if at + HEADER.size > read_at + len(read):
            read, read_at = memory[at : at + _SCANNED_BYTES], at
            if len(read) < HEADER.size:  # truncated meanwhile
                break
        kind, _misc, size = HEADER.unpack_from(read, at - read_at)
        if size < HEADER.size or at + size > len(memory):
            break
        if kind not in own:
            at += size
            continue
        if begin < at:
            plain.append((begin, at))
        start, at = at + HEADER.size, at + size
        if kind == ToolRecord.COMPRESSED:
            packed.append((start, at))
            begin = at
            continue
        body = memory[start:at]
        if kind == ToolRecord.COMPRESSED2:
            packed.append((start + 8, min(start + 8 + _U64.unpack_from(body)[0], at)))
        elif kind == ToolRecord.HEADER_ATTR:
            attr_size = min(max(_U32.unpack_from(body, 4)[0], 64), len(body))
            described.append((bytes(body[:attr_size]), event_ids(body[attr_size:])))
        elif kind == ToolRecord.HEADER_FEATURE:
            features.read(_U64.unpack_from(body)[0], body[8:])
        elif kind == ToolRecord.HEADER_BUILD_ID:
            features.build_ids.update(build_ids_of(memory[start - HEADER.size : at]))
        elif kind == ToolRecord.HEADER_TRACING_DATA:
            at += (_U32.unpack_from(body)[0] + 7) & ~7  # follows the record, outside its size
        elif kind == ToolRecord.AUXTRACE:
            at += _U64.unpack_from(body)[0]
        begin = at
    if begin < at:
        plain.append((begin, at))
    data.parts.append(_Part(memory, plain, packed))
    data.cut_bytes += max(0, len(memory) - at)
