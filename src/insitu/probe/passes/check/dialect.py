"""bpftrace's own rules about maps and names, apart from the typing that any front end needs."""

from __future__ import annotations

from typing import TypeGuard

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.aggregations import Average, Count, Element, Maximum, Minimum, Sum
from insitu.probe.builtins.constants import CONSTANTS
from insitu.probe.source import Span
from insitu.probe.type_resolver import Structures
from insitu.probe.types import BOOL, INT64, UNKNOWN, Integer, Tuple, Type

__all__ = [
    "MapType",
    "holds_element",
    "is_key_of_parts",
    "key_parts",
    "named_constant",
    "readable",
    "widened",
]


class MapType(Struct):
    """What is known of a map so far. ``key`` is None until used; an empty tuple means a map without a key."""

    key: Tuple | None = None
    value: Type = UNKNOWN
    first: Span = Span(0, 0)
    declared: ast.MapDeclaration | None = None
    entries: int = 0  # that it is declared for

    @property
    def evicts(self) -> bool:
        """Whether it is declared to drop what was not used lately when it is full."""
        return self.declared is not None and "lru" in self.declared.kind


def key_parts(node: ast.MapAccess) -> list[ast.Expression]:
    """The parts of an access's key: ``@x[(a, b)]`` is ``@x[a, b]``, which the node is changed to."""
    parts = node.key or []
    if len(parts) == 1 and isinstance(parts[0], ast.TupleLiteral) and not parts[0].names:
        parts = node.key = parts[0].elements
    return parts


def is_key_of_parts(kind: Type) -> TypeGuard[Tuple]:
    """Whether a single value as key is the same as its elements one by one: ``@x[$t]`` is ``@x[$t.0, $t.1]``."""
    return isinstance(kind, Tuple) and not kind.names


def widened(kind: Type) -> Type:
    """The type in a map's key or value: integers of all widths are 64 bits there, with C's sign."""
    return Integer(8, kind.signed, kind.enum, kind.enumerators) if isinstance(kind, Integer) else kind


def readable(kind: Type) -> Type:
    """What a program reads of a map's value: of most aggregations a number, the total of all CPUs."""
    if isinstance(kind, Count):
        return INT64
    if isinstance(kind, Sum | Minimum | Maximum | Average):
        return Integer(8, kind.signed)
    return kind


def holds_element(kind: Type) -> bool:
    """Whether it is, or has in it, what a loop over a map of histograms or the like finds there."""
    return isinstance(kind, Element) or (isinstance(kind, Tuple) and any(map(holds_element, kind.elements)))


def named_constant(structures: Structures, name: str) -> tuple[int, Type] | None:
    """Value and type of an enumerator of the script, a constant of C headers, or an enumerator of the kernel."""
    own = structures.enumerator(name)
    if own is not None:
        return own
    if name in ("true", "false"):
        return CONSTANTS[name], BOOL
    if name in CONSTANTS:
        return CONSTANTS[name], INT64
    if not any(c.isupper() or c == "_" for c in name):
        return None  # looking through the kernel's enumerators takes long
    return structures.described_enumerator(name)
