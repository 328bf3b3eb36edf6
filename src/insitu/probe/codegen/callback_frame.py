"""What a function of a program shares with those that the kernel calls back while it runs: the bodies of loops.

A callback gets one pointer, to the *link* of the function around it. A link is on that function's stack: the
probe's context, the link further out, the program's scratch memory, how the callback ended, and the variables that
the loop shares with the code around it; those for which the stack has no room are in scratch memory.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from insitu.probe import ast
from insitu.probe.codegen.emitter import Function
from insitu.probe.source import Span
from insitu.probe.types import Type

__all__ = ["OUTER", "Ending", "Link"]

OUTER = "%outer"  # a callback's parameter: the link of the function around it
_CONTEXT, _OUTER, _SCRATCH, _ENDING, _RESULT, _HEADER = 0, 8, 16, 24, 32, 40
_SHARED_ON_STACK = 64  # bytes of a link for variables
_LARGEST_ON_STACK = 16


class Ending(IntEnum):
    """How a callback ended: by itself, by leaving the function that contains the loop, or by ending the program.

    A part of a loop's body (ast.Part) may also end the loop, or the iteration.
    """

    ITSELF = 0
    RETURN = 1
    LEAVE = 2
    BREAK = 3
    CONTINUE = 4


class Frame(Protocol):
    """What a link needs of the function that it belongs to (lowering.Lowering)."""

    emit: Function
    context: str
    scratch_base: str
    from_outside: frozenset[str]

    def use_scratch(self) -> str:
        """A pointer to the program's scratch memory."""

    def scratch_at(self, size: int) -> tuple[int, str]:
        """``size`` bytes of scratch memory: where they begin in it, and a pointer."""

    def variable(self, node: ast.Variable) -> tuple[str, Type]:
        """A pointer to a variable, and its type."""


class Link:
    """The link of one function, made when it is first needed."""

    def __init__(self, low: Frame, outer: Link | None) -> None:
        self.outer = outer
        self._low = low
        self._made = False
        self._shared = 0
        self._homes: dict[str, tuple[bool, int]] = {}  # of variables: whether in scratch memory, and where

    def pointer(self) -> str:
        """The link, for a callback."""
        if not self._made:
            self._made = True
            self._low.emit.grow("%link", _HEADER)
            self._keep(self._low.context, _CONTEXT)
            if self.outer is not None:
                self._keep(OUTER, _OUTER)
            else:
                self._low.emit.setup(f"  store i64 0, ptr {self._field('%link', _RESULT)}, align 8\n")
                if self._low.scratch_base:
                    self._keep(self._low.scratch_base, _SCRATCH)
        return "%link"

    def scratch_found(self, base: str) -> None:
        """The program's scratch memory has been looked up: callbacks may use it."""
        if self._made:
            self._keep(base, _SCRATCH)

    def scratch(self) -> str:
        """In a callback: the scratch memory of its program."""
        levels, root = self._root()
        root._low.use_scratch()
        return self._low.emit.setup_value(f"load ptr, ptr {self._field(self._climb(levels), _SCRATCH)}, align 8")

    def _root(self) -> tuple[int, Link]:
        """In a callback: how many links out the program's own is, and it."""
        levels, root = 1, self.outer
        assert root is not None
        while root.outer is not None:
            levels, root = levels + 1, root.outer
        return levels, root

    # Variables

    def home(self, name: str, size: int) -> str:
        """Memory that callbacks reach, for a variable of this function: a pointer."""
        if size > _LARGEST_ON_STACK or self._shared + size > _SHARED_ON_STACK:
            at, pointer = self._low.scratch_at(size)
            self._homes[name] = (True, at)
            return pointer
        self._shared += size
        pointer = self.pointer()
        at = self._low.emit.grow("%link", size)
        self._homes[name] = (False, at)
        return self._field(pointer, at)

    def adopt(self, name: str, at: int) -> None:
        """A variable of this function is in scratch memory."""
        self._homes[name] = (True, at)

    def reach(self, name: str) -> str:
        """In a callback: a pointer to a variable that belongs to a function further out."""
        levels, owner = 1, self.outer
        assert owner is not None
        while name in owner._low.from_outside:
            assert owner.outer is not None
            levels, owner = levels + 1, owner.outer
        if name not in owner._homes:
            owner._low.variable(ast.Variable(Span(0, 0), name))
        in_scratch, at = owner._homes[name]
        return self._field(self._low.use_scratch() if in_scratch else self._climb(levels), at)

    # How a callback ended

    def begin(self) -> None:
        """Before a callback is called."""
        emit = self._low.emit
        emit.store(str(int(Ending.ITSELF)), emit.offset(self.pointer(), _ENDING))

    def end(self, how: Ending, result: str = "0") -> None:
        """In a callback: set how it ends, and the program's result if that ends, too."""
        emit = self._low.emit
        emit.store(str(int(how)), emit.offset(OUTER, _ENDING))
        if result != "0":
            emit.store(result, emit.offset(self._climb(self._root()[0]), _RESULT))

    def ending(self) -> str:
        """After a loop: how it ended, an i64."""
        emit = self._low.emit
        return emit.load(emit.offset(self.pointer(), _ENDING))

    def result(self) -> str:
        """After a loop whose callback ended the program: its result, an i64."""
        emit = self._low.emit
        return emit.load(emit.offset(self.pointer(), _RESULT))

    # Setup

    def _keep(self, pointer: str, at: int) -> None:
        self._low.emit.setup(f"  store ptr {pointer}, ptr {self._field('%link', at)}, align 8\n")

    def _field(self, base: str, at: int) -> str:
        return self._low.emit.setup_value(f"getelementptr i8, ptr {base}, i64 {at}")

    def _climb(self, levels: int) -> str:
        link = OUTER
        for _ in range(levels - 1):
            link = self._low.emit.setup_value(f"load ptr, ptr {self._field(link, _OUTER)}, align 8")
        return link
