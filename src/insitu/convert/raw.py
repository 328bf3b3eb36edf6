"""A recording before conversion: streams of kernel records and what is needed to read them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from insitu.convert.formats.perf_records import EventAttr, Stream, walk
from insitu.session.manifest import Manifest

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["RawRecording", "Windows"]

_WINDOW_BYTES: Final = 64 << 20


class Windows:
    """The records of a buffer that starts at a record's header, a window of some 64 MiB at a time.

    It can be iterated again. ``torn`` are the bytes at its end that belong to no whole record.
    """

    def __init__(self, data: "Buffer", window_bytes: int = _WINDOW_BYTES) -> None:
        self._data = memoryview(data).cast("B")
        self._window = window_bytes
        self._only: Stream | None = walk(self._data) if len(self._data) <= window_bytes else None
        self.torn = self._only.torn if self._only is not None else 0

    def __iter__(self) -> Iterator[Stream]:
        if self._only is not None:
            yield self._only
            return
        at = 0
        while at < len(self._data):
            stream = walk(self._data[at : at + self._window])
            walked = len(self._data[at : at + self._window]) - stream.torn
            if not walked:
                break
            at += walked
            yield stream
        self.torn = len(self._data) - at


@dataclass
class RawRecording:
    """Streams of records (each in the order of one ring or file), their events, and what came with them.

    A stream is what gives windows of its records, again and again. ``build_ids`` maps a path to the build id noted
    beside the stream; ``cut_bytes`` counts bytes that belong to no whole record. ``live`` says that it was recorded
    on this machine since its last boot, so that processes and kernel symbols may be looked at.
    """

    streams: Sequence[Iterable[Stream]]
    attrs: list[EventAttr]
    manifest: Manifest = field(default_factory=Manifest)
    build_ids: dict[str, str] = field(default_factory=dict)
    cut_bytes: int = 0
    live: bool = False
    source: str = "perf"
    max_stack: int = 0
    """Frames that unwinding of stack copies goes back at most; 0: as perf."""
    kallsyms: bytes | None = None
    """The recorded kernel's /proc/kallsyms, where it was kept."""

    @property
    def torn(self) -> int:
        """Bytes that could not be read as records; known once all windows have been read."""
        return self.cut_bytes + sum(getattr(stream, "torn", 0) for stream in self.streams)
