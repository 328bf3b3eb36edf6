"""What all types of the language have in common."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Type"]


class Type(Struct, frozen=True, tag=True):
    """Any type. ``str()`` gives what error messages call it."""

    def __str__(self) -> str:
        return type(self).__name__.lower()

    @property
    def size(self) -> int:
        """Bytes in memory, as C's sizeof counts."""
        return 8

    def resolve(self) -> Type:
        """The type itself; of a kernel type that was not looked at yet, what it turns out to be."""
        return self
