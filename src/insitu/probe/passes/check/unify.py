"""The one type that can hold values of two."""

from __future__ import annotations

from insitu.probe.aggregations import LinearHistogram, TimeSeries
from insitu.probe.types import (
    Array,
    Buffer,
    Integer,
    NamedNumber,
    Pointer,
    Record,
    Stack,
    String,
    Tuple,
    Type,
    Unknown,
    is_bool,
)

__all__ = ["unify"]


def unify(old: Type, new: Type) -> Type | None:
    """The type of a variable that holds ``old`` and is assigned ``new``; None when they do not fit."""
    if isinstance(old, Unknown):
        return new
    if isinstance(new, Unknown) or old == new:
        return old
    if isinstance(old, Integer) and isinstance(new, Integer | Pointer):
        if isinstance(new, Pointer):
            return new
        if is_bool(old) != is_bool(new):
            number = new if is_bool(old) else old
            return Integer(number.bytes, number.signed)
        same = old.enum == new.enum
        width = max(old.bytes, new.bytes)
        return Integer(width, old.signed, old.enum if same else "", old.enumerators if same else ())
    if isinstance(old, Pointer) and isinstance(new, Integer | Pointer):
        return old
    if isinstance(old, String) and isinstance(new, String):
        return String(max(old.capacity, new.capacity))
    if isinstance(old, Buffer) and isinstance(new, Buffer):
        return Buffer(max(old.capacity, new.capacity))
    if isinstance(old, Stack) and isinstance(new, Stack):
        return old if old.map == new.map else None  # an id means nothing without its map
    if isinstance(old, Tuple) and isinstance(new, Tuple) and len(old.elements) == len(new.elements):
        if old.names and new.names and set(old.names) != set(new.names):
            return None
        order = new.order_of(old)
        elements = [unify(each, new.elements[at]) for each, at in zip(old.elements, order, strict=True)]
        whole = tuple(e for e in elements if e is not None)
        names = old.names if new.names else None
        return Tuple(whole, names) if len(whole) == len(elements) else None
    if isinstance(old, Record | Array) and type(old) is type(new) and str(old) == str(new):
        return old
    for one, other in ((old, new), (new, old)):
        if isinstance(one, NamedNumber) and one.is_text and isinstance(other, String):
            return String(max(one.room, other.capacity))
    if isinstance(old, NamedNumber) and isinstance(new, NamedNumber) and {old.kind, new.kind} == {"func", "ksym"}:
        return NamedNumber("ksym")
    if isinstance(old, LinearHistogram | TimeSeries):
        return None
    if type(old) is type(new) and not isinstance(old, Record | Array | String | Tuple):
        return old if str(old) == str(new) else None
    return None
