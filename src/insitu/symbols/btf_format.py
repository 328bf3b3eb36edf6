"""The format of BTF: its header, its kinds of types, and how long a type is (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = ["AGGREGATES", "ENUMS", "HEADER", "MAGIC", "MODIFIERS", "TYPE_WORDS", "Kind", "entry_words", "length_words"]


class Kind(IntEnum):
    """BTF_KIND_* of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


HEADER = struct.Struct("<HBBIIIII")
"""struct btf_header: magic version flags hdr_len type_off type_len str_off str_len"""
MAGIC: Final = 0xEB9F
TYPE_WORDS: Final = 3
"""struct btf_type: name_off, info, size or type"""

# What follows struct btf_type, in u32s: always, and for each of the vlen entries.
_MORE_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_ENTRY_WORDS = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
_FIXED = [TYPE_WORDS + _MORE_WORDS.get(kind, 0) for kind in Kind]
_PER_ENTRY = [_ENTRY_WORDS.get(kind, 0) for kind in Kind]

MODIFIERS: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
AGGREGATES: Final = frozenset({Kind.STRUCT, Kind.UNION})
ENUMS: Final = frozenset({Kind.ENUM, Kind.ENUM64})


def length_words(info: int) -> int:
    """The length of a type with that info word, in u32s. :raises IndexError: when it is of no known kind."""
    kind = info >> 24 & 0x1F
    return _FIXED[kind] + _PER_ENTRY[kind] * (info & 0xFFFF)


def entry_words(kind: int) -> int:
    """The length of each of the entries that follow a type of that kind, in u32s; 0 for kinds without."""
    return _PER_ENTRY[kind]
