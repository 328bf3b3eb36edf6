"""Side-band records of perf streams (mappings, names, forks, exits, losses), packed until they are replayed.

A build runs hundreds of thousands of short processes: their records stay bytes, some 150 each, and are parsed one by
one in the order of time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import Stream
from insitu.kernel.perf_event import Sample
from insitu.kernel.perf_records import HEADER, LAYOUTS, SideRecord, parse, trailer_fields
from insitu.session.distinct import ranges

__all__ = ["SideRecords"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_TYPES: Final = list(LAYOUTS)
_PACKED: Final = 1 << 15  # records that are packed, or put in order, at a time


@dataclass(frozen=True)
class _Part:
    """Records of one window: record i is ``size[i]`` bytes of ``memory`` from ``at[i]`` on."""

    memory: U8
    at: I64
    size: NDArray[np.uint16]
    type: NDArray[np.uint32]
    misc: NDArray[np.uint16]
    trailer: tuple[Sample, ...]

    def ts_ns(self) -> I64:
        """The time of each record, 0 where it has none."""
        ts_ns = np.zeros(len(self.at), np.int64)
        if Sample.TIME in self.trailer:
            size = self.size.astype(np.int64) - 8 * (len(self.trailer) - self.trailer.index(Sample.TIME))
            whole = np.flatnonzero(size >= HEADER.size)
            found = self.memory[(self.at + size)[whole, None] + np.arange(8)].view("<u8")[:, 0]
            ts_ns[whole] = np.minimum(found, np.uint64(2**63 - 1)).astype(np.int64)
        return ts_ns

    def record(self, row: int) -> SideRecord | None:
        start = int(self.at[row])
        body = self.memory[start + HEADER.size : start + int(self.size[row])].tobytes()
        return parse(int(self.type[row]), int(self.misc[row]), body, self.trailer)


class SideRecords:
    """Records of any streams; iterating parses them in the order of time, those too short for their type left out."""

    def __init__(self, stream: Stream | None = None, attrs: Sequence[EventAttr] = ()) -> None:
        """Empty, or with the records of one stream."""
        self._parts: list[_Part] = []
        if stream is not None:
            self.add(stream, attrs)

    def add(self, stream: Stream, attrs: Sequence[EventAttr]) -> None:
        """Add the records of a stream, or of a window of one, whose events are ``attrs``."""
        trailer = trailer_fields(attrs[0].sample_type) if attrs and attrs[0].sample_id_all else ()
        found = np.flatnonzero(np.isin(stream.type, _TYPES))
        for begin in range(0, len(found), _PACKED):
            rows = found[begin : begin + _PACKED]
            size = stream.size[rows]
            words = (size.astype(np.int64) + 7) >> 3
            memory = stream.words[ranges(stream.at[rows], words)].view(np.uint8)
            at = 8 * (np.cumsum(words) - words)
            self._parts.append(_Part(memory, at, size, stream.type[rows], stream.misc[rows], trailer))

    def __iter__(self) -> Iterator[SideRecord]:
        if not self._parts:
            return
        order = np.argsort(np.concatenate([part.ts_ns() for part in self._parts]), kind="stable")
        first = np.cumsum([0, *(len(part.at) for part in self._parts)])
        for begin in range(0, len(order), _PACKED):
            rows = order[begin : begin + _PACKED]
            of = np.searchsorted(first, rows, side="right") - 1
            for part, row in zip(of.tolist(), (rows - first[of]).tolist(), strict=True):
                record = self._parts[part].record(row)
                if record is not None:
                    yield record
