"""A recording before conversion: streams of kernel records and what is needed to read them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from insitu.convert.file_bytes import FileBytes
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import WINDOW_BYTES, Stream, walk_windows
from insitu.session.manifest import Manifest

__all__ = ["RawRecording", "Windows", "window_bytes"]

_IN_MEMORY_BYTES: Final = 16 << 20
_LEAST_WINDOW_BYTES: Final = 1 << 20


def window_bytes(streams: int) -> int:
    """The size of a window where so many streams are read side by side."""
    return max(_LEAST_WINDOW_BYTES, min(WINDOW_BYTES, _IN_MEMORY_BYTES // max(streams, 1)))


class Windows:
    """The records of one stream, window by window; can be iterated again. ``torn``: bytes of an incomplete record.

    With ``keep`` it is read and walked once.
    """

    def __init__(self, windows: Callable[[], Iterator[Stream]], keep: bool) -> None:
        self._windows = windows
        self._keep = keep
        self._kept: list[Stream] | None = None
        self.torn = 0

    @classmethod
    def all_of(cls, files: Sequence["FileBytes"]) -> "list[Windows]":
        """The records of files that start at a record's header each; all that is in memory at a time is bounded."""
        size = window_bytes(len(files))
        return [cls(partial(walk_windows, data, size), len(data) <= size) for data in files]

    def __iter__(self) -> Iterator[Stream]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Stream] = []
        for stream in self._windows():
            self.torn = stream.torn
            if self._keep:
                kept.append(stream)
            yield stream
        if self._keep:
            self._kept = kept


@dataclass
class RawRecording:
    """Streams of records (each in the order of one ring or file), their events, and what came with them.

    A stream yields windows of its records, each time it is iterated. ``build_ids`` maps a path to the build id noted
    beside the stream; ``cut_bytes`` counts bytes of incomplete records. ``live``: recorded on this machine since its
    last boot, so that /proc and the running kernel's symbols may be used.
    """

    streams: Sequence[Iterable[Stream]]
    attrs: list[EventAttr]
    manifest: Manifest = field(default_factory=Manifest)
    build_ids: dict[str, str] = field(default_factory=dict)
    cut_bytes: int = 0
    live: bool = False
    source: str = "perf"
    max_stack: int = 0
    """Most frames of a stack that is unwound from a copy; 0: as perf."""
    notes: list[str] = field(default_factory=list)
    kallsyms: bytes | None = None
    """The recorded kernel's /proc/kallsyms, if it was saved."""

    @property
    def torn(self) -> int:
        """Bytes that could not be read as records; known once all windows have been read."""
        return self.cut_bytes + sum(getattr(stream, "torn", 0) for stream in self.streams)
