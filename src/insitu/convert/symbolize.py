"""Resolves addresses of distinct stacks to frames: each address once, in the module mapped there."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from insitu.convert.stacks import KERNEL_HALF
from insitu.session.distinct import distinct, groups, offsets_of
from insitu.session.interning import FrameTable
from insitu.symbols.frame import Frame
from insitu.symbols.module_names import is_of_one_process
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.unwind import CUT

if TYPE_CHECKING:
    from insitu.symbols.symbolizer import Symbolizer

__all__ = ["Resolver"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_CUT = (Frame("[stack truncated]"),)  # a name of its own: views write "[unknown]" for what has no symbol
_UNKNOWN = (Frame("[unknown]", symbolized=False),)


class Resolver:
    """Resolves addresses to frames, and adds them to the frame table."""

    def __init__(self, symbols: "Symbolizer", spaces: ProcessMap, frames: FrameTable) -> None:
        self._symbols = symbols
        self._spaces = spaces
        self._frames = frames

    def __call__(self, epoch: I32, address: U64, called: Bools) -> tuple[I64, I32]:
        """Offsets (n + 1) and ids of frames, innermost first, of n distinct (epoch, address, called)."""
        looked_up = address - called
        found: list[Sequence[Frame]] = [()] * len(address)
        for row in np.flatnonzero(address == CUT).tolist():
            found[row] = _CUT
        kernel = address >= KERNEL_HALF
        rows = np.flatnonzero(kernel)
        if len(rows):
            self._spread(rows, looked_up[rows], self._symbols.kernel, found)
        self._user(np.flatnonzero(~kernel & (address != CUT)), epoch, looked_up, found)
        lengths = np.fromiter((len(frames) for frames in found), np.int64, len(found))
        numbers = self._frames.number(frame for frames in found for frame in frames)
        return offsets_of(lengths), np.array(numbers, np.int32)

    def _user(self, rows: I64, epoch: I32, address: U64, found: list[Sequence[Frame]]) -> None:
        module = np.full(len(rows), -1, np.int32)
        offset = address[rows]
        for one, mine in groups(epoch[rows]):
            if one >= 0:
                module[mine], offset[mine] = self._spaces.find(one, address[rows[mine]])
        for one, mine in groups(module):
            if one < 0:
                for row in rows[mine].tolist():
                    found[row] = _UNKNOWN
                continue
            file = self._spaces.modules[one]
            if is_of_one_process(file.path):
                resolved = self._symbols.user(file, offset[mine], address[rows[mine]])
                for row, frames in zip(rows[mine].tolist(), resolved, strict=True):
                    found[row] = frames
            else:
                self._spread(rows[mine], offset[mine], partial(self._symbols.user, file), found)

    def _spread(
        self, rows: I64, at: U64, look_up: Callable[[U64], list[tuple[Frame, ...]]], found: list[Sequence[Frame]]
    ) -> None:
        """Look up each distinct value of ``at`` once; the frames of each row go into ``found``."""
        unique, inverse = distinct(at)
        resolved = look_up(unique)
        for row, index in zip(rows.tolist(), inverse.tolist(), strict=True):
            found[row] = resolved[index]
