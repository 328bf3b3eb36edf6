"""Reads BTF, the kernel's description of its own types and functions (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import itertools
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar, cast

from insitu.errors import InsituError
from insitu.symbols.btf_format import ENUMS, HEADER, MAGIC, TYPE_WORDS, Kind, entry_words, length_words
from insitu.symbols.btf_type import Member, Parameter, Type

__all__ = ["Btf", "Kind", "Member", "Parameter", "Type"]

_FUNC_PROTO = int(Kind.FUNC_PROTO)
_PROTOTYPE_INFO = Kind.FUNC_PROTO << 24
_USUAL_PARAMETERS = 16
_USUAL_NAME = 256  # the kernel's own bound is KSYM_NAME_LEN, 512
_MAX_SEARCHES = 24  # of names in the bytes: they take as long as an index of all names


T = TypeVar("T")


class Btf:
    """One set of types. A module's builds on its kernel's: ids and string offsets go on where ``base`` ends."""

    def __init__(self, data: bytes, name: str = "BTF", base: Btf | None = None) -> None:
        """Take the raw contents of a BTF file or section. :raises InsituError: naming the offset that is wrong."""
        self.name, self.base = name, base
        if len(data) < HEADER.size:
            raise InsituError(f"{name}: not BTF: {len(data)} bytes are less than its header")
        magic, version, _, header_bytes, type_off, type_len, str_off, str_len = HEADER.unpack_from(data)
        if magic != MAGIC or version != 1:
            raise InsituError(f"{name}: not BTF of version 1 in this machine's byte order")
        types, strings = header_bytes + type_off, header_bytes + str_off
        if types % 4 or type_len % 4 or types + type_len > len(data) or strings + str_len > len(data):
            raise InsituError(f"{name}: BTF is cut short: {len(data)} bytes hold less than its header says")
        self._data, self._types_at = data, types
        self._words = array("I", data[types : types + type_len])
        self._strings = data[strings : strings + str_len]
        if self._strings[-1:] != b"\0" or (base is None and self._strings[0]):
            raise InsituError(f"{name}: BTF strings at offset {strings} do not begin and end with a zero")
        self.first_id: int = base.first_id + base.count if base else 1
        self._first_string: int = base._first_string + len(base._strings) if base else 0
        self._at = self._index()
        self._types: dict[int, Type] = {}
        self._names: dict[tuple[Kind, ...], dict[str, int]] = {}
        self._searches = 0
        self._found: dict[tuple[str, tuple[Kind, ...]], Type | None] = {}
        self.parameter_names: dict[int, str] = {}  # strings by offset: functions' parameters share a few thousand

    def _index(self) -> array[int]:
        """Word offset of every type. Each one's length is in itself, so this is the one walk from first to last.

        A kernel has 100,000 types and few distinct info words: their lengths are worked out once each.
        """
        words, end = self._words, len(self._words)
        found: list[int] = []
        lengths: dict[int, int] = {}
        at = 0
        try:
            while at < end:
                found.append(at)
                info = words[at + 1]
                if info not in lengths:
                    lengths[info] = length_words(info)
                at += lengths[info]
        except IndexError:
            at = end + 1
        if at != end:
            where = self._types_at + 4 * found[-1]
            raise InsituError(f"{self.name}: BTF type {self.first_id + len(found) - 1} at offset {where} is broken")
        self._infos = list(lengths)
        return array("I", found)

    @property
    def count(self) -> int:
        """How many types there are, those of ``base`` not counted."""
        return len(self._at)

    @cached_property
    def _ascii(self) -> str:
        """The strings as text, offsets being the same; empty where they are not plain ASCII."""
        return self._strings.decode() if self._strings.isascii() else ""

    def string(self, offset: int) -> str:
        """The string at ``offset`` (counted over base and this)."""
        if offset < self._first_string and self.base:
            return self.base.string(offset)
        begin = offset - self._first_string
        end = self._strings.find(b"\0", begin) if begin >= 0 else -1
        if end < 0:
            raise InsituError(f"{self.name}: BTF string offset {offset} is beyond its strings")
        return self._strings[begin:end].decode(errors="replace")

    def type(self, type_id: int) -> Type:
        """The type with that number; 0 is void. :raises InsituError: when there is none."""
        if 0 < type_id < self.first_id and self.base:
            return self.base.type(type_id)
        found = self._types.get(type_id)
        if found is None:
            if type_id >= self.first_id + self.count or type_id < 0:
                raise InsituError(f"{self.name}: there is no BTF type {type_id}")
            found = self._types[type_id] = Type(self, type_id)
        return found

    def words(self, type_id: int) -> Sequence[int]:
        """The u32s of one type, its entries included."""
        at = self._at[type_id - self.first_id]
        return self._words[at : at + length_words(self._words[at + 1])].tolist()

    def head(self, type_id: int) -> Sequence[int]:
        """The three u32s that every type begins with: struct btf_type's name_off, info, and size or type."""
        at = self._at[type_id - self.first_id]
        return self._words[at : at + TYPE_WORDS]

    def find(self, name: str, *kinds: Kind) -> Type | None:
        """The first type of that name and one of the kinds (any kind when none is given); base is asked last."""
        known = self._names.get(kinds)
        if known is not None:
            number = known.get(name)
            return self.type(number) if number else self.base.find(name, *kinds) if self.base else None
        if (name, kinds) not in self._found:
            self._searches += bool(kinds)
            if self._searches > _MAX_SEARCHES:
                self.names(*kinds)
                return self.find(name, *kinds)
            self._found[name, kinds] = self._search(name, kinds)
        return self._found[name, kinds]

    def _search(self, name: str, kinds: Sequence[Kind]) -> Type | None:
        """Search the bytes for a name, without an index."""
        for string in self._string_offsets(name):
            for word in self._occurrences(string):
                index = bisect_left(self._at, word)
                if index < self.count and self._at[index] == word and (not kinds or self._kind_at(word) in kinds):
                    return Type(self, self.first_id + index)
        return self.base.find(name, *kinds) if self.base else None

    def section_offset(self, variable: str) -> int | None:
        """Where a variable lies in its section, in bytes; None if no section here has it.

        A kernel's own types have those of each CPU, in the section .data..percpu.
        """
        found = self.find(variable, Kind.VAR)
        if found is None:
            return None
        for index in self._of_kinds((Kind.DATASEC,)):
            words = self.words(self.first_id + index)
            # struct btf_var_secinfo: the variable's id, its offset, its size
            at = dict(zip(words[TYPE_WORDS::3], words[TYPE_WORDS + 1 :: 3], strict=True))
            if found.id in at:
                return at[found.id]
        return None

    def prototype(self, function: str) -> Type | None:
        """The FUNC_PROTO of the function of that name: several functions may share one."""
        found = self.prototype_id(function)
        return found[0].type(found[1]) if found else None

    def prototype_id(self, function: str) -> tuple[Btf, int] | None:
        """The number of ``prototype``, and the set that it is in: this one or its base."""
        if "prototypes" in self.__dict__:
            return self.prototypes.get(function) or (self.base.prototype_id(function) if self.base else None)
        found = self.find(function, Kind.FUNC)
        if found is None:
            return None
        prototype = found.target
        return prototype.btf, prototype.id

    @cached_property
    def prototypes(self) -> dict[str, tuple[Btf, int]]:
        """The prototypes of all of this set's own functions, by name: the set that each is in, and its number."""
        found = self._of_kinds((Kind.FUNC,))
        base, first = self.base or self, self.first_id
        numbers = [self._words[self._at[index] + 2] for index in found]
        return self._by_name(found, [(self if number >= first else base, number) for number in numbers])

    def parameter_words(self, prototypes: Iterable[int]) -> Iterator[tuple[int, ...] | None]:
        """The parameters of this set's own prototypes; None for numbers of no prototype.

        Each parameter is two u32s: its name's offset and its type's id, as in struct btf_param.
        """
        offsets, words, data = self._at, self._words, self._data
        first, count, begin = self.first_id, len(offsets), self._types_at + 4 * TYPE_WORDS
        formats = {_PROTOTYPE_INFO + length: struct.Struct(f"<{2 * length}I") for length in range(_USUAL_PARAMETERS)}
        for number in prototypes:
            at = offsets[number - first] if first <= number < first + count else 0
            info = words[at + 1]
            if info in formats:
                yield formats[info].unpack_from(data, begin + 4 * at)
            elif info >> 24 & 0x1F == _FUNC_PROTO and number >= first:
                yield struct.unpack_from(f"<{2 * (info & 0xFFFF)}I", data, begin + 4 * at)
            else:
                yield None

    def _occurrences(self, value: int) -> Iterator[int]:
        """Where, in words, the types hold this word: as one's name, an entry's name, or anything else."""
        wanted, end = value.to_bytes(4, "little"), self._types_at + 4 * len(self._words)
        at = self._data.find(wanted, self._types_at, end)
        while at >= 0:
            if at % 4 == 0:
                yield (at - self._types_at) // 4
            at = self._data.find(wanted, at + 1, end)

    def _kind_at(self, word: int) -> int:
        return self._words[word + 1] >> 24 & 0x1F

    def _string_offsets(self, name: str) -> list[int]:
        """Where a string lies: a module's types may name one of its own strings or of its kernel's."""
        if not name or "\0" in name:
            return []
        found = self.base._string_offsets(name) if self.base else []
        own = self._strings.find(b"\0" + name.encode() + b"\0")
        # A module's strings begin without a zero of their own.
        if own < 0 and self._strings.startswith(name.encode() + b"\0"):
            own = -1
        elif own < 0:
            return found
        return [*found, self._first_string + own + 1]

    def names(self, *kinds: Kind) -> dict[str, int]:
        """Names of this set's own types of the kinds, in order, with their (first) type's number."""
        found = self._names.get(kinds)
        if found is None:
            own = self._of_kinds(kinds)
            found = self._names[kinds] = self._by_name(own, [self.first_id + index for index in own])
        return found

    def _of_kinds(self, kinds: Sequence[Kind]) -> list[int]:
        """The indexes of this set's own types of the kinds."""
        wanted = {info for info in self._infos if info >> 24 & 0x1F in kinds}
        infos = map(self._words[1:].__getitem__, self._at)
        return list(itertools.compress(range(self.count), map(wanted.__contains__, infos)))

    def _by_name(self, indexes: Sequence[int], values: Sequence[T]) -> dict[str, T]:
        """The value of the first of each name, of types at these indexes; those without a name are left out."""
        names = self._strings_at([self._words[self._at[index]] for index in indexes])
        found = dict.fromkeys(names)  # the order
        found.update(zip(reversed(names), reversed(values), strict=True))
        found.pop("", None)
        return cast(dict[str, T], found)

    def _strings_at(self, offsets: list[int]) -> list[str]:
        """The strings at many offsets."""
        text, begin = self._ascii, self._first_string
        if text and offsets and min(offsets) >= begin and max(offsets) < begin + len(text):
            if begin:
                offsets = [offset - begin for offset in offsets]
            found = [text[at : at + _USUAL_NAME].partition("\0")[0] for at in offsets]
            if max(map(len, found)) < _USUAL_NAME:
                return found
        return [self.string(offset) if offset else "" for offset in offsets]

    def matching(self, pattern: str, *kinds: Kind) -> Iterator[Type]:
        """This set's own types of the kinds whose name matches a shell pattern, in order of their names."""
        import fnmatch

        names = self.names(*kinds)
        for name in sorted(fnmatch.filter(names, pattern)):
            yield Type(self, names[name])

    def nearest(self, name: str, *kinds: Kind) -> list[str]:
        """Up to three names of the kinds that look like ``name``, the closest first."""
        import difflib

        return difflib.get_close_matches(name, self.names(*kinds), 3, 0.7)

    def enumerator(self, name: str) -> tuple[Type, int] | None:
        """The enum that has an enumerator of that name, and its value."""
        for string in self._string_offsets(name):
            for word in self._occurrences(string):
                index = bisect_right(self._at, word) - 1
                start = self._at[index]
                kind = self._kind_at(start)
                entry = word - start - TYPE_WORDS
                if kind in ENUMS and entry >= 0 and entry % entry_words(kind) == 0:
                    owner = Type(self, self.first_id + index)
                    return owner, owner.enumerators[name]
        return self.base.enumerator(name) if self.base else None
