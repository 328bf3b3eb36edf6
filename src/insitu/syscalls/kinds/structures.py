"""Kinds of arguments that point to a structure which its declaration alone describes."""

from __future__ import annotations

from insitu.syscalls.argument import Kind
from insitu.syscalls.capture import Bytes, Wide
from insitu.syscalls.kinds.layout import Struct

__all__ = ["structure"]


def structure(declaration: str) -> Kind:
    """Returns the kind that points to a structure (see layout.Struct for the declaration)."""
    struct = Struct(declaration)
    long8, long4 = struct.size(8), struct.size(4)
    return Kind(struct.text, Bytes(long8) if long8 == long4 else Wide(Bytes(long8), Bytes(long4)))
