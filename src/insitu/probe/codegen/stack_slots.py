"""The stack memory of one program: which slots are free, and what has to be kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct, field

__all__ = ["StackSlots"]

# The kernel allows 512 bytes of stack (MAX_BPF_STACK), for a program and its callbacks together; registers that LLVM
# spills need some of them.
_STACK_BYTES = 512
_BUDGET = 320
_SPILLED = 72
_LARGEST = 72


class StackSlots(Struct):
    """Stack slots by size: free ones are reused, so that a long script needs no more than its largest statement.

    ``allocate`` makes a slot of some bytes on the stack, ``scratch`` elsewhere; both return a pointer. ``functions``:
    how many may be on the stack at once.
    """

    allocate: Callable[[int], str]
    scratch: Callable[[int], str]
    functions: int = 1
    total: int = 0
    free: dict[int, list[str]] = field(default_factory=dict)
    in_use: list[tuple[int, str]] = field(default_factory=list)

    def _fits(self, size: int) -> bool:
        budget = _BUDGET if self.functions == 1 else _STACK_BYTES // self.functions - _SPILLED
        return size <= _LARGEST and self.total + size <= budget

    def temporary(self, size: int) -> str:
        """``size`` bytes, undefined, until the enclosing ``temporaries()`` block ends: a pointer."""
        size = -(-size // 8) * 8
        if self.free.get(size):
            pointer = self.free[size].pop()
        elif self._fits(size):
            self.total += size
            pointer = self.allocate(size)
        else:
            pointer = self.scratch(size)
        self.in_use.append((size, pointer))
        return pointer

    @contextmanager
    def temporaries(self) -> Iterator[None]:
        """Free at the end what temporary() allocated inside."""
        mark = len(self.in_use)
        yield
        for size, pointer in self.in_use[mark:]:
            self.free.setdefault(size, []).append(pointer)
        del self.in_use[mark:]

    def permanent(self, size: int) -> str:
        """``size`` bytes for the whole program (a variable): a pointer."""
        size = -(-size // 8) * 8
        if size == 8:  # LLVM keeps scalars in registers: they do not count
            return self.allocate(size)
        if self._fits(size):
            self.total += size
            return self.allocate(size)
        return self.scratch(size)
