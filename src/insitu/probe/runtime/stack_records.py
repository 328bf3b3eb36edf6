"""Stacks that maps and variables hold by id: what a stack map has is written beside the events that mean it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.probe.layout import IN_SECOND, SECOND
from insitu.probe.runtime.record_walk import record_offsets
from insitu.session.distinct import groups, ranges

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from insitu.kernel.bpf_map import Map

__all__ = ["StackContents", "StackReader", "framed"]

_HEADER = struct.Struct("<I4x")
_STACK = struct.Struct("<II")


def framed(content: bytes) -> bytes:
    """A record as rings have them: its length in front, padded to 8 bytes."""
    return _HEADER.pack(len(content)) + content + bytes(-len(content) % 8)


class StackReader:
    """Reads what is new in stack maps. The kernel never replaces a stack that a map has."""

    def __init__(self, maps: Mapping[int, Map]) -> None:
        """``maps`` are stack maps by our numbers."""
        self._maps = maps
        self._known: dict[int, set[bytes]] = {number: set() for number in maps}

    def new(self) -> bytes:
        """Records of the stacks that came since the last call: u32 map number, u32 id, addresses."""
        found = []
        for number, source in self._maps.items():
            known = self._known[number]
            for key in list(source.keys()):
                if key in known:
                    continue
                content = source.lookup(key)
                if content is not None:
                    known.add(key)
                    addresses = content[: _used(content)]
                    found.append(framed(_STACK.pack(number, int.from_bytes(key, "little")) + addresses))
        return b"".join(found)


def _used(content: bytes) -> int:
    """Bytes up to the first address that is zero."""
    words = np.frombuffer(content, "<u8")
    ends = np.flatnonzero(words == 0)
    return 8 * int(ends[0]) if len(ends) else len(content)


class StackContents:
    """The stacks of records that a StackReader made."""

    def __init__(self, data: Buffer, stack_maps: Mapping[str, Any]) -> None:
        """``stack_maps`` are numbers by name, as the layout has them."""
        offsets, _ = record_offsets(data)
        words = np.frombuffer(memoryview(data)[: len(memoryview(data)) & ~7], "<u8")
        at = offsets >> 3
        length = (words[at] & np.uint64(0x3FFFFFFF)).astype(np.int64)
        at, length = at[length >= _STACK.size], length[length >= _STACK.size]
        head = words[at + 1] if len(at) else np.zeros(0, np.uint64)
        names = {int(number): name for name, number in stack_maps.items()}
        for number, name in names.items():
            if name.endswith(SECOND) and name[: -len(SECOND)] in stack_maps:
                second = np.uint64(int(stack_maps[name[: -len(SECOND)]]) | IN_SECOND << 32)
                mine = (head & np.uint64(0xFFFFFFFF)) == number
                head = np.where(mine, head >> np.uint64(32) << np.uint64(32) | second, head)
        self._words = words
        self._found: dict[str, tuple[npt.NDArray[np.int64], ...]] = {}
        for number, rows in groups((head & np.uint64(0xFFFFFFFF)).astype(np.int64)):
            ids, first = np.unique((head[rows] >> np.uint64(32)).astype(np.int64), return_index=True)
            rows = rows[first]
            self._found[names.get(number, "")] = (ids, at[rows] + 2, (length[rows] - _STACK.size) >> 3)

    def find(self, name: str, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Of a map's stacks, the number of frames of each id (0 for unknown ones), and all addresses."""
        if name not in self._found or not len(ids):
            return np.zeros(len(ids), np.int64), np.zeros(0, np.uint64)
        known, at, frames = self._found[name]
        row = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        lengths = np.where(known[row] == ids, frames[row], 0)
        return lengths, self._words[ranges(at[row], lengths)]

    @classmethod
    def of(cls, parts: Iterable[bytes], stack_maps: Mapping[str, Any]) -> StackContents:
        """From records in several pieces."""
        return cls(b"".join(parts), stack_maps)
