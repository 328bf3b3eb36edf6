"""A recording before conversion: streams of kernel records and what is needed to read them."""

from dataclasses import dataclass, field

from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import Stream

__all__ = ["RawRecording"]


@dataclass
class RawRecording:
    """Streams of records (each in the order of one ring or file), their events, and what came with them.

    ``build_ids`` maps a path to the build id noted beside the stream; ``cut_bytes`` counts bytes that belong to no
    whole record. ``live`` says that it was recorded on this machine since its last boot, so that processes and
    kernel symbols may be looked at.
    """

    streams: list[Stream]
    attrs: list[EventAttr]
    info: dict[str, object] = field(default_factory=dict)
    build_ids: dict[str, str] = field(default_factory=dict)
    cut_bytes: int = 0
    live: bool = False

    @property
    def torn(self) -> int:
        """Bytes that could not be read as records."""
        return self.cut_bytes + sum(stream.torn for stream in self.streams)
