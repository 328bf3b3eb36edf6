"""``insitu leaks --track -- COMMAND`` without uprobes: a preloaded library records what the command allocates."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands.leaks_run import last_moment
from insitu.errors import InsituError
from insitu.inspect.heap.preloaded import LIBRARY, WHAT, BlockTable
from insitu.record.launcher import executable
from insitu.symbols.preloaded import refuse_unsuitable

if TYPE_CHECKING:
    from insitu.inspect.heap.allocations import U64, Traced
    from insitu.inspect.heap.preloaded import RecordedBlocks
    from insitu.inspect.heap.snapshot import Snapshot

__all__ = ["record"]


def record(args: argparse.Namespace, command: Sequence[str]) -> tuple[Snapshot, Callable[[U64], Traced], int]:
    """Run a command until it is about to exit, or ``args.duration`` is over.

    Returns its copy, what returns the blocks of certain addresses that it allocated, and its status.
    Raises InsituError.
    """
    refuse_unsuitable(executable(command), LIBRARY, WHAT)
    with contextlib.closing(BlockTable(args.stack, args.max_memory)) as table:
        found: list[RecordedBlocks | None] = []
        snapshot, status = last_moment(
            args, command, table.variables(), lambda copied: found.append(table.read(copied, time.monotonic_ns()))
        )
    blocks = found[0]
    if blocks is None:
        raise InsituError(
            f"{snapshot.name} has not loaded the {WHAT}: it is static, set-uid or without /proc, or had no memory",
            remedy="insitu leaks without --track, or as root with uprobes",
        )
    if blocks.full:
        messages.warning(
            f"the stacks of {blocks.full:,} allocations are not known: more than {table.blocks:,} blocks at a time"
        )
    return snapshot, blocks.traced, status
