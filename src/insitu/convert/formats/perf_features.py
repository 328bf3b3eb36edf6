"""Feature sections of perf.data: host, command, build ids, names of events.

Format: tools/perf/Documentation/perf.data-file-format.txt.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from insitu.convert.file_bytes import FileBytes
from insitu.kernel.perf_records import HEADER

__all__ = ["Features", "build_ids_of", "event_ids", "feature_sections"]

_SECTION = struct.Struct("<QQ")  # struct perf_file_section
_U32 = struct.Struct("<I")

# enum in tools/perf/util/header.h
_BUILD_ID, _HOSTNAME, _OSRELEASE, _ARCH, _NRCPUS, _CMDLINE, _EVENT_DESC = 2, 3, 4, 6, 7, 11, 12
_FEATURES: Final = 256
_MOST_FEATURE_BYTES: Final = 64 << 20


@dataclass
class Features:
    """The content of a file's feature sections, or of a pipe's feature records."""

    info: dict[str, object]
    build_ids: dict[str, str]
    names: dict[tuple[int, ...], str]  # ids of an event -> its name

    @classmethod
    def none(cls) -> "Features":
        return cls({}, {}, {})

    def read(self, feature: int, body: memoryview) -> None:
        """Add one feature section; a malformed one is ignored."""
        strings = {_HOSTNAME: "host", _OSRELEASE: "kernel", _ARCH: "machine"}
        try:
            if feature in strings:
                self.info[strings[feature]] = _string(body)[0]
            elif feature == _NRCPUS:
                self.info["cpus"] = _U32.unpack_from(body)[0]
            elif feature == _CMDLINE:
                self.info["command"] = list(_strings(body))
            elif feature == _BUILD_ID:
                self.build_ids.update(build_ids_of(body))
            elif feature == _EVENT_DESC:
                self.names.update(_event_names(body))
        except (struct.error, IndexError):
            return


def feature_sections(memory: FileBytes, flags: int, at: int) -> Iterator[tuple[int, memoryview]]:
    """The number and the bytes of each feature section; their table begins at ``at``, after the records."""
    for feature in range(_FEATURES):
        if flags >> feature & 1:
            entry = memory[at : at + _SECTION.size]
            if len(entry) < _SECTION.size:
                return
            start, size = _SECTION.unpack(entry)
            at += _SECTION.size
            yield feature, memory[start : start + min(size, _MOST_FEATURE_BYTES)]


def event_ids(raw: "memoryview | bytes") -> tuple[int, ...]:
    """An array of u64 event ids."""
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


def build_ids_of(body: memoryview) -> Iterator[tuple[str, str]]:
    """Path and build id of each struct perf_record_header_build_id."""
    at = 0
    while at + 36 <= len(body):
        _kind, misc, size = HEADER.unpack_from(body, at)
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
        yield event_ids(body[at : at + 8 * min(ids, 1 << 16)]), name.rstrip(":p ") or name
        at += 8 * ids
