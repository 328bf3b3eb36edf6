"""Names of threads in trace events: of millions of them few are different."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.trace_pages import texts
from insitu.session.coded_texts import CodedTexts
from insitu.session.distinct import distinct, first_rows

__all__ = ["ThreadNames"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_MOST_TIDS: Final = 1 << 22  # PID_MAX_LIMIT
_MOST_NAMES: Final = 1 << 12  # every batch of events has them all
_PLACE_BITS: Final = 16
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


class ThreadNames:
    """Finds names that were in earlier events by a table; ``first`` is the first name of each thread."""

    def __init__(self) -> None:
        self.first: dict[int, str] = {}
        self._named = np.zeros(1, np.bool_)
        """By tid: whether ``first`` has it."""
        self._code = np.zeros(1 << _PLACE_BITS, np.int32)
        """By place: the name that was there first."""
        self._words = np.zeros((2, 1), np.uint64)
        """Of each name its 16 bytes."""
        self._values = [""]
        self._index = {bytes(16): 0}

    def coded(self, tid: NDArray[Any], rows: U8) -> CodedTexts:
        """The names of threads, of rows of 16 bytes (see values_of)."""
        words = np.ascontiguousarray(rows).view("<u8")
        low, high = words[:, 0], words[:, 1]
        place = ((low * _MIXER ^ high) * _MIXER >> np.uint64(64 - _PLACE_BITS)).view(np.int64)
        code = self._code[place]
        others = np.flatnonzero((self._words[0][code] != low) | (self._words[1][code] != high))
        names = CodedTexts(code, self._values)
        if len(others):
            found = self._numbers(rows[others], place[others])
            if found is None:
                names = texts(rows)
            else:
                code[others] = found
        self.seen(tid, names)
        return names

    def seen(self, tid: NDArray[Any], names: CodedTexts) -> None:
        """Keep the first name of each thread."""
        if not len(tid):
            return
        low, high = int(tid.min()), int(tid.max())
        if low >= 0 and high < len(self._named) and bool(self._named[tid].all()):
            return
        numbers, inverse = distinct(tid)
        for number, row in zip(numbers.tolist(), first_rows(inverse, len(numbers)).tolist(), strict=True):
            self.first.setdefault(number, names[row])
        kept = numbers[(numbers >= 0) & (numbers < _MOST_TIDS)]
        missing = int(kept.max(initial=0)) + 1 - len(self._named)
        if missing > 0:
            self._named = np.append(self._named, np.zeros(max(missing, len(self._named)), np.bool_))
        self._named[kept] = True

    def _numbers(self, rows: U8, place: I64) -> Any:
        """The numbers of names that are not at their places, which are kept there; None: there are too many names."""
        found = texts(rows)
        if len(self._values) + len(found.values) > _MOST_NAMES:
            return None
        example = first_rows(found.codes.astype(np.int64), len(found.values))
        numbers = []
        for row, name in zip(example.tolist(), found.values, strict=True):
            raw = rows[row].tobytes()
            number = self._index.setdefault(raw, len(self._values))
            if number == len(self._values):
                self._values.append(name)
                if not self._code[place[row]]:
                    self._code[place[row]] = number
            numbers.append(number)
        self._words = np.frombuffer(b"".join(self._index), "<u8").reshape(-1, 2).T.copy()
        return np.array(numbers, np.int32)[found.codes]
