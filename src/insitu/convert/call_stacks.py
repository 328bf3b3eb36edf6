"""Stacks of system calls: the call itself is the innermost frame, so that calls without stacks have one too."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame

__all__ = ["call_stacks"]


def call_stacks(writer: SessionWriter, names: Sequence[str], outer: NDArray[np.int32]) -> NDArray[np.int32]:
    """The stack of each call: the frame of its name on top of the user stack that it was made from (0: none)."""
    distinct = list(dict.fromkeys(names))
    frames = writer.frames.number(Frame(name, "[system call]", kind=KERNEL) for name in distinct)
    frame_of = dict(zip(distinct, frames, strict=True))
    frame = np.fromiter((frame_of[name] for name in names), np.int32, len(names))
    return writer.stacks.add(np.arange(len(names) + 1), frame, outer)
