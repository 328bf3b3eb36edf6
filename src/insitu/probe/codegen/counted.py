"""Lowers loops of our own whose rounds are counted: the kernel's verifier walks them round by round."""

from __future__ import annotations

from collections.abc import Callable

from insitu.probe.codegen.lowering import Lowering

__all__ = ["counted"]


def counted(low: Lowering, rounds: int | str, body: Callable[[str], None]) -> None:
    """Emit what ``body`` emits, given the i64 of the round: 0 up to ``rounds`` (excluded)."""
    emit = low.emit
    counter = low.permanent(8)
    head, inside, end = emit.label(), emit.label(), emit.label()
    emit.store("0", counter)
    emit.block(head)
    current = emit.load(counter)
    emit.branch_if(emit.value(f"icmp ult i64 {current}, {rounds}"), inside, end)
    emit.block(inside)
    body(current)
    emit.store(emit.op("add", emit.load(counter), "1"), counter)
    emit.branch(head)
    emit.block(end)
