"""Types of values as plain JSON, in the description of a recording's bytes, and back again."""

from __future__ import annotations

from typing import Any

from insitu.errors import damaged_recording
from insitu.probe import aggregations, types
from insitu.probe.types import (
    VOID,
    Array,
    Field,
    Integer,
    Members,
    Pointer,
    Record,
    String,
    Tuple,
    Type,
    Variable,
)

__all__ = ["type_from_json", "type_to_json"]

_MOST_DEPTH = 40  # of types in types: a description may be damaged
_MOST_BYTES = 1 << 24
# Types that consist of numbers and text only: their fields in the order of their constructors.
_PLAIN: dict[str, tuple[str, ...]] = {
    "Buffer": ("capacity",),
    "Integer": ("bytes", "signed", "enum", "enumerators"),
    "String": ("capacity",),
    "NamedNumber": ("kind",),
    "UserSymbol": (),
    "Stack": ("user", "limit", "mode"),
    "Timestamp": (),
    "Inet": (),
    "MacAddress": (),
    "Void": (),
    "Count": (),
    "Sum": ("signed",),
    "Minimum": ("signed",),
    "Maximum": ("signed",),
    "Average": ("signed",),
    "Statistics": ("signed",),
    "Histogram": ("bits",),
    "LinearHistogram": ("minimum", "maximum", "step"),
    "TimeSeries": ("interval", "count", "aggregate", "signed"),
}


def type_to_json(kind: Type, depth: int = 0) -> dict[str, Any]:
    """A type as a dictionary: its class under ``type``, and what it consists of."""
    kind = kind.resolve()
    name = type(kind).__name__
    if depth > _MOST_DEPTH:
        return {"type": "Void"}
    if isinstance(kind, Pointer):  # shown as a number
        return {"type": "Pointer"}
    if isinstance(kind, Variable):
        return {"type": name, "element": type_to_json(kind.element, depth + 1)}
    if isinstance(kind, Array):
        return {"type": name, "element": type_to_json(kind.element, depth + 1), "count": kind.count}
    if isinstance(kind, Tuple):
        elements = [type_to_json(each, depth + 1) for each in kind.elements]
        return {"type": name, "elements": elements, "names": list(kind.names) if kind.names else None}
    if isinstance(kind, Record):
        fields = [
            {
                "name": each,
                "type": type_to_json(field.type, depth + 1),
                "offset": field.offset,
                "bits": field.bits,
                "shift": field.shift,
            }
            for each, field in kind.fields().items()
        ]
        return {"type": name, "name": kind.name, "tag": kind.tag, "bytes": kind.bytes, "fields": fields}
    return {"type": name, **{each: getattr(kind, each) for each in _PLAIN.get(name, ())}}


def type_from_json(data: Any, depth: int = 0) -> Type:
    """The type that type_to_json() has described. Raises InsituError for what it never makes."""
    try:
        found = _type(data, depth)
        size = types.stored_size(found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise damaged_recording("the layout of the recording", "a type that is not known") from None
    if not 0 <= size <= _MOST_BYTES:
        raise damaged_recording("the layout of the recording", f"a value of {size} bytes")
    return found


def _type(data: Any, depth: int) -> Type:
    name = data["type"]
    if depth > _MOST_DEPTH:
        raise ValueError(name)
    if name == "Pointer":
        return Pointer(VOID)
    if name == "Variable":
        return Variable(type_from_json(data["element"], depth + 1))
    if name == "Array":
        return Array(type_from_json(data["element"], depth + 1), _natural(data["count"]))
    if name == "Tuple":
        names = tuple(map(str, data["names"])) if data["names"] else None
        elements = tuple(type_from_json(each, depth + 1) for each in data["elements"])
        if names is not None and len(names) != len(elements):
            raise ValueError(name)
        return Tuple(elements, names)
    if name == "Record":
        members = {each["name"]: _member(each, depth) for each in data["fields"]}
        return Record(str(data["name"]), str(data["tag"]), _natural(data["bytes"]), Members(lambda: members))
    arguments = {each: data[each] for each in _PLAIN[name]}
    if name == "Integer":
        arguments["enumerators"] = tuple((str(text), int(number)) for text, number in data["enumerators"])
        if arguments["bytes"] not in (1, 2, 4, 8):
            raise ValueError(name)
    for each, value in arguments.items():
        if each in ("capacity", "limit", "count", "interval", "bits", "step"):
            _natural(value)
    made = getattr(types if hasattr(types, name) else aggregations, name)(**arguments)
    assert isinstance(made, Integer | String | Type)
    return made


def _member(data: Any, depth: int) -> Field:
    place = (_natural(data["offset"]), _natural(data["bits"]), _natural(data["shift"]))
    if place[1] + place[2] > 64:
        raise ValueError(data["name"])
    return Field(str(data["name"]), type_from_json(data["type"], depth + 1), *place)


def _natural(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= _MOST_BYTES * 1000:
        raise ValueError(value)
    return value
