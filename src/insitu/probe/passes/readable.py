"""What the checker knows of a map, and what a program reads of it."""

from __future__ import annotations

from typing import TypeGuard

from msgspec import Struct, field

from insitu.probe.source import Span
from insitu.probe.types import (
    INT64,
    UNKNOWN,
    Average,
    Count,
    Element,
    Integer,
    Maximum,
    Minimum,
    Sum,
    Tuple,
    Type,
)

__all__ = ["MapType", "holds_element", "is_key_of_parts", "readable"]


class MapType(Struct):
    """What is known of a map so far. ``key`` is None until used; an empty tuple means a map without a key."""

    key: Tuple | None = None
    value: Type = UNKNOWN
    first: Span = field(default_factory=lambda: Span(0, 0))


def readable(kind: Type) -> Type:
    """What a program reads of a map's value: of most aggregations a number, what all CPUs counted."""
    if isinstance(kind, Count):
        return INT64
    if isinstance(kind, Sum | Minimum | Maximum | Average):
        return Integer(8, kind.signed)
    return kind


def holds_element(kind: Type) -> bool:
    """Whether it is, or has in it, what a loop over a map of histograms or the like finds there."""
    return isinstance(kind, Element) or (isinstance(kind, Tuple) and any(map(holds_element, kind.elements)))


def is_key_of_parts(kind: Type) -> TypeGuard[Tuple]:
    """Whether a single value as key is the same as its elements one by one: ``@x[$t]`` is ``@x[$t.0, $t.1]``."""
    return isinstance(kind, Tuple) and not kind.names
