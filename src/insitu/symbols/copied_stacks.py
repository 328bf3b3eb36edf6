"""Registers and copies of stacks of one process, unwound and named: for what is not a recording of many samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.kernel import ptrace
from insitu.kernel.procfs import Area
from insitu.symbols.frame import Frame
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import CUT, Unwinder
from insitu.symbols.user_stacks import UserStacks

__all__ = ["NamedStack", "StackCopy", "frames_at", "named_stacks", "samples_of"]

_MOST_DEPTH: Final = 2000


class StackCopy(NamedTuple):
    """A thread's registers, as ptrace.SAMPLED_MASK has them, and its stack from the stack pointer on."""

    tid: int
    registers: tuple[int, ...]
    stack: bytes
    compat: bool
    """Whether the registers are those of a 32-bit program."""


class NamedStack(NamedTuple):
    """``frames`` innermost first; ``cut``: the stack goes on, but was not unwound further."""

    frames: Sequence[Frame]
    addresses: Sequence[int]
    """Of each frame that is not inlined: the instruction pointer, then return addresses."""
    cut: bool


def named_stacks(
    pid: int, areas: Iterable[Area], copies: Sequence[StackCopy], symbolizer: Symbolizer, *, offsets: bool = False
) -> tuple[list[NamedStack], Sequence[str]]:
    """The frames of each copy, of a process that has these areas mapped; and what they lack, as notes.

    ``offsets``: functions without a source line are "function+0xoffset", of the instruction or return address.
    """
    spaces = ProcessMap()
    epoch = spaces.execed_with(pid, 0, [area for area in areas if "x" in area.permissions])
    unwinder = Unwinder(
        spaces,
        symbolizer.open_module,
        frame_pointers=True,
        max_depth=_MOST_DEPTH,
        mark_cut=True,
        trampolines=symbolizer.python_trampolines,
    )
    bounds, addresses = unwinder.unwind(samples_of(copies, epoch))
    named = frames_at(spaces, symbolizer, pid, epoch, bounds, addresses)
    stacks = []
    for at in range(len(copies)):
        mine = addresses[bounds[at] : bounds[at + 1]].tolist()
        cut = bool(mine and mine[-1] == CUT)
        shown = named[bounds[at] : bounds[at + 1] - cut]
        if offsets:
            shown = [
                _with_offset(spaces, symbolizer, epoch, address, place > 0, each)
                for place, (address, each) in enumerate(zip(mine, shown, strict=False))
            ]
        frames = [frame for each in shown for frame in each]
        stacks.append(NamedStack(frames, mine[:-1] if cut else mine, cut))
    return stacks, unwinder.notes()


def _with_offset(
    spaces: ProcessMap, symbolizer: Symbolizer, epoch: int, address: int, called: bool, frames: tuple[Frame, ...]
) -> tuple[Frame, ...]:
    if len(frames) != 1 or frames[0].line or not frames[0].symbolized or not frames[0].module:
        return frames
    modules, file_offsets = spaces.find(epoch, np.array([address - called], np.uint64))
    if modules[0] < 0:
        return frames
    found = symbolizer.function(spaces.modules[int(modules[0])], int(file_offsets[0]), address - called)
    if found is None:
        return frames
    return (frames[0]._replace(function=f"{frames[0].function}+{found[1] + called:#x}"),)


def samples_of(copies: Sequence[StackCopy], epoch: int) -> UserStacks:
    """The copies of stacks in the form that the unwinder takes."""
    sizes = np.array([len(each.stack) for each in copies], np.int64)
    return UserStacks(
        np.array([each.registers for each in copies], np.uint64).reshape(
            len(copies), ptrace.SAMPLED_MASK.bit_count()
        ),
        ptrace.SAMPLED_MASK,
        np.frombuffer(b"".join(each.stack for each in copies), np.uint8),
        np.cumsum(sizes) - sizes,
        sizes,
        np.full(len(copies), epoch, np.int32),
        np.array([1 if each.compat else 2 for each in copies], np.uint64),
    )


def frames_at(
    spaces: ProcessMap,
    symbolizer: Symbolizer,
    pid: int,
    epoch: int,
    bounds: NDArray[np.int64],
    addresses: NDArray[np.uint64],
) -> list[tuple[Frame, ...]]:
    """The frames at each address: one function, and those inlined there."""
    # A return address may be the first of the next function: the call lies before it.
    called = np.ones(len(addresses), np.uint64)
    called[bounds[:-1][np.diff(bounds) > 0]] = 0
    distinct, inverse = np.unique(addresses - called, return_inverse=True)
    modules, offsets = spaces.find(epoch, distinct)
    frames: list[tuple[Frame, ...]] = [()] * len(distinct)
    for index in np.unique(modules).tolist():
        rows = np.flatnonzero(modules == index)
        made = (
            symbolizer.anonymous(pid, distinct[rows])
            if index < 0
            else symbolizer.user(spaces.modules[index], offsets[rows], distinct[rows])
        )
        for row, each in zip(rows.tolist(), made, strict=True):
            frames[row] = each
    return [frames[at] for at in inverse.tolist()]
