"""Split DWARF joined again: what compilers put into .dwo and .dwp files, in one image with the rest of the program.

symbolic reads one file, and no split units. Here each split unit (gcc -gsplit-dwarf, rustc -C split-debuginfo) is
written as an ordinary unit of version 4 that has what lines and inlined functions need: names, address ranges, call
sites.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed
from insitu.symbols.dwarf_lists import new_list, old_list
from insitu.symbols.dwarf_units import (
    ADDRESS_INDEXES,
    UNIT_REFERENCES,
    Abbreviations,
    Attribute,
    Entry,
    Form,
    Strings,
    entries,
)
from insitu.symbols.elf import Elf
from insitu.symbols.elf_join import with_sections
from insitu.symbols.line_files import line_files
from insitu.symbols.split_files import Place, Skeleton, SplitUnit, find_split_units, skeletons

__all__ = ["Joined", "joined"]

# DW_TAG_*: units, and what functions lie in.
_COMPILE_UNIT: Final = 0x11
_SUBPROGRAM: Final = 0x2E
_TAGS: Final = frozenset(
    {
        _COMPILE_UNIT,
        0x02,  # class_type
        0x04,  # enumeration_type
        0x0B,  # lexical_block
        0x13,  # structure_type
        0x17,  # union_type
        0x1D,  # inlined_subroutine
        0x1E,  # module
        _SUBPROGRAM,
        0x38,  # interface_type
        0x39,  # namespace
    }
)

# DW_AT_*
_NAME, _STMT_LIST, _LOW_PC, _HIGH_PC, _LANGUAGE, _COMP_DIR, _INLINE = 0x03, 0x10, 0x11, 0x12, 0x13, 0x1B, 0x20
_ORIGIN, _DECLARATION, _SPECIFICATION, _RANGES, _CALL_FILE, _CALL_LINE = 0x31, 0x3C, 0x47, 0x55, 0x58, 0x59
_LINKAGE_NAME, _MIPS_LINKAGE_NAME, _ADDR_BASE = 0x6E, 0x2007, 0x73
_GNU_RANGES_BASE, _GNU_ADDR_BASE = 0x2132, 0x2133
_TEXTS: Final = {_NAME, _LINKAGE_NAME, _MIPS_LINKAGE_NAME}
_NUMBERS: Final = {_INLINE, _CALL_LINE}
_WANTED: Final = frozenset(
    {*_TEXTS, *_NUMBERS, _LOW_PC, _HIGH_PC, _LANGUAGE, _ORIGIN, _DECLARATION, _SPECIFICATION, _RANGES, _CALL_FILE}
)
_DATA2, _DATA8, _REF4 = 0x05, 0x07, 0x13

_LISTS_HEADER_BYTES: Final = 12  # what precedes a list section's table of offsets, which count from its begin
_MAX_SPLIT_BYTES: Final = 128 << 20  # of all units' entries: what takes about a minute

_JOINED_SECTIONS: Final = (".debug_info", ".debug_abbrev", ".debug_ranges")


class Joined(NamedTuple):
    """``image`` is None where no split unit was read; ``missing`` is how many were not."""

    image: bytes | None
    missing: int


def joined(elf: Elf, beside: Sequence[Place], root: Path = Path("/")) -> Joined:
    """The image of ``elf`` with its split units joined.

    ``beside`` is where it and its program lie: packages are looked for there. Paths that the compiler wrote are seen
    from ``root``. What is corrupt is left out.
    """
    if elf.section(".debug_addr") is None:  # which split units need
        return Joined(None, 0)
    program = _Program(elf)
    wanted = program.skeletons()
    writer = _Writer(program)
    found = size = 0
    for skeleton, split in find_split_units(beside, wanted, root):
        size += split.unit.end - split.unit.offset
        if size > _MAX_SPLIT_BYTES:
            break
        writer.add(skeleton, split)
        found += 1
    return Joined(with_sections(elf, writer.sections()) if found else None, len(wanted) - found)


class _Program:
    """The sections of the program that its split units refer to."""

    def __init__(self, elf: Elf) -> None:
        read = elf.section_bytes
        self.info, self.abbrev, self.ranges = (read(name) for name in _JOINED_SECTIONS)
        self.addresses, self.line = read(".debug_addr"), read(".debug_line")
        self.strings = Strings(read(".debug_str"), read(".debug_line_str"), read(".debug_str_offsets"), 8)

    def skeletons(self) -> list[Skeleton]:
        return list(skeletons(self.info, Abbreviations(self.abbrev), self.strings))


class _Unit:
    """What the values of a split unit's attributes mean."""

    def __init__(self, program: _Program, skeleton: Skeleton, split: SplitUnit) -> None:
        self._program, self._skeleton, self._split = program, skeleton, split
        self.is_5 = split.unit.version >= 5
        self.word = split.unit.address_bytes
        self.strings = Strings(split.strings, b"", split.str_offsets, 8 if self.is_5 else 0)
        entry = skeleton.entry
        self._addr_base = entry.number(_ADDR_BASE, 8) if self.is_5 else entry.number(_GNU_ADDR_BASE)
        low = entry.attributes.get(_LOW_PC)
        self.base = self.address(low) if low is not None else 0
        self.files = self._file_numbers()

    def address(self, attribute: Attribute) -> int:
        """The address that an attribute is, or is the index of."""
        return self.address_at(attribute.number) if attribute.form in ADDRESS_INDEXES else attribute.number

    def address_at(self, index: int) -> int:
        return fixed(self._program.addresses, self._addr_base + index * self.word, self.word)[0]

    def ranges(self, attribute: Attribute) -> list[tuple[int, int]]:
        """The address ranges [first, end) that DW_AT_ranges names."""
        if not self.is_5:
            at = attribute.number + self._skeleton.entry.number(_GNU_RANGES_BASE)
            listed = old_list(self._program.ranges, at, self.base, self.word, located=False)
        else:
            at = attribute.number
            if attribute.form == Form.RNGLISTX:
                at = _LISTS_HEADER_BYTES + fixed(self._split.rnglists, _LISTS_HEADER_BYTES + 4 * at, 4)[0]
            listed = new_list(self._split.rnglists, at, self.base, self.word, self.address_at, located=False)
        return [(first, end) for first, end, _ in listed]

    def extents(self, kept: list[Entry]) -> list[tuple[int, int]]:
        """The address ranges of all functions among entries."""
        found = []
        for entry in kept:
            attributes = entry.attributes
            if entry.tag != _SUBPROGRAM:
                continue
            if _RANGES in attributes:
                found += self.ranges(attributes[_RANGES])
            elif _LOW_PC in attributes and _HIGH_PC in attributes:
                first, end = self.address(attributes[_LOW_PC]), self.address(attributes[_HIGH_PC])
                is_size = attributes[_HIGH_PC].form not in (Form.ADDR, *ADDRESS_INDEXES)
                found.append((first, first + end if is_size else end))
        return sorted(found)

    def _file_numbers(self) -> dict[int, int] | None:
        """The program's number of each file of the split unit's line table; None if it shares the program's."""
        if not self._split.line:
            return None
        comp_dir, stmt_list = self._skeleton.comp_dir, self._skeleton.entry.number(_STMT_LIST)
        try:
            theirs = line_files(self._split.line, 0, comp_dir, self.strings.at)
            ours = line_files(self._program.line, stmt_list, comp_dir, self._program.strings.at)
        except CorruptDwarfError:
            return {}
        by_path = {path: number for number, path in reversed(ours.items())}
        return {number: by_path[path] for number, path in theirs.items() if path in by_path}


class _Writer:
    """Writes units of DWARF 4 that follow those of the program."""

    def __init__(self, program: _Program) -> None:
        self._program = program
        self._info = bytearray()
        self._ranges = bytearray()
        self._codes: dict[tuple[int, bool, tuple[tuple[int, int], ...]], int] = {}

    def sections(self) -> dict[str, bytes]:
        """The program's sections with what was written after them."""
        abbrev = b"".join(
            _uleb(code) + _uleb(tag) + bytes([children]) + b"".join(_uleb(x) + _uleb(y) for x, y in fields) + b"\0\0"
            for (tag, children, fields), code in self._codes.items()
        )
        before = self._program.info, self._program.abbrev, self._program.ranges
        after = bytes(self._info), abbrev + b"\0", bytes(self._ranges)
        return {name: old + new for name, old, new in zip(_JOINED_SECTIONS, before, after, strict=True)}

    def add(self, skeleton: Skeleton, split: SplitUnit) -> None:
        """Write a unit; nothing of it if it is corrupt."""
        try:
            unit = _Unit(self._program, skeleton, split)
            kept = list(entries(split.info, split.unit, Abbreviations(split.abbrev), _TAGS, _WANTED))
            offsets = {entry.offset for entry in kept}
            written = [(entry, self._fields(entry, unit, split, offsets)) for entry in kept]
            if written:
                written[0][1].extend(self._unit_fields(unit, skeleton, kept))
        except CorruptDwarfError:
            return
        self._info += self._unit(written, unit.word)

    def _unit(self, written: "list[tuple[Entry, list[_Field]]]", word: int) -> bytes:
        header_bytes = 11
        body = bytearray()
        moved: dict[int, int] = {}
        references: list[tuple[int, int]] = []
        depth = 0
        for index, (entry, fields) in enumerate(written):
            body += bytes(max(depth - entry.depth, 0))  # ends of the lists of children that come before
            depth = entry.depth
            moved[entry.offset] = header_bytes + len(body)
            children = index + 1 < len(written) and written[index + 1][0].depth > entry.depth
            key = (entry.tag, children, tuple((field.name, field.form) for field in fields))
            body += _uleb(self._codes.setdefault(key, len(self._codes) + 1))
            for field in fields:
                if field.form == _REF4:
                    references.append((len(body), field.target))
                body += field.data
        body += bytes(depth)
        for at, target in references:
            body[at : at + 4] = struct.pack("<I", moved[target])
        head = struct.pack("<IHIB", header_bytes - 4 + len(body), 4, len(self._program.abbrev), word)
        return head + bytes(body)

    def _fields(self, entry: Entry, unit: _Unit, split: SplitUnit, offsets: set[int]) -> "list[_Field]":
        """What an entry has in the joined unit."""
        fields = []
        for name, attribute in entry.attributes.items():
            if name in _TEXTS:
                fields.append(_Field(name, Form.STRING, unit.strings.of(attribute) + b"\0"))
            elif name in _NUMBERS:
                fields.append(_Field(name, Form.UDATA, _uleb(attribute.number)))
            elif name == _CALL_FILE:
                number = attribute.number if unit.files is None else unit.files.get(attribute.number)
                if number is not None:
                    fields.append(_Field(name, Form.UDATA, _uleb(number)))
            elif name in (_ORIGIN, _SPECIFICATION):
                # Types of other units (DW_FORM_ref_sig8) are not at hand.
                target = attribute.number + (split.unit.offset if attribute.form in UNIT_REFERENCES else 0)
                if attribute.form in (*UNIT_REFERENCES, Form.REF_ADDR) and target in offsets:
                    fields.append(_Field(name, _REF4, bytes(4), target))
            elif name == _DECLARATION:
                fields.append(_Field(name, Form.FLAG_PRESENT, b""))
            elif name == _LANGUAGE:
                fields.append(_Field(name, _DATA2, struct.pack("<H", attribute.number & 0xFFFF)))
            elif entry.tag == _COMPILE_UNIT:
                continue  # its addresses are those of its functions
            elif name == _RANGES:
                fields.append(_Field(name, Form.SEC_OFFSET, self._range_list(unit.ranges(attribute), unit.word)))
            elif name == _HIGH_PC and attribute.form != Form.ADDR and attribute.form not in ADDRESS_INDEXES:
                fields.append(_Field(name, _DATA8, struct.pack("<Q", attribute.number)))
            else:
                fields.append(_Field(name, Form.ADDR, unit.address(attribute).to_bytes(unit.word, "little")))
        return fields

    def _unit_fields(self, unit: _Unit, skeleton: Skeleton, kept: list[Entry]) -> "list[_Field]":
        """What the unit's own entry has from its skeleton. Without ranges readers pass a unit over."""
        fields = [
            _Field(_LOW_PC, Form.ADDR, bytes(unit.word)),  # what range lists count from
            _Field(_RANGES, Form.SEC_OFFSET, self._range_list(unit.extents(kept), unit.word)),
            _Field(_COMP_DIR, Form.STRING, skeleton.comp_dir + b"\0"),
        ]
        if _STMT_LIST in skeleton.entry.attributes:
            fields.append(_Field(_STMT_LIST, Form.SEC_OFFSET, struct.pack("<I", skeleton.entry.number(_STMT_LIST))))
        return fields

    def _range_list(self, ranges: list[tuple[int, int]], word: int) -> bytes:
        """Write a range list; its offset."""
        offset = len(self._program.ranges) + len(self._ranges)
        for first, end in ranges:
            if first < end < 1 << 8 * word:
                self._ranges += first.to_bytes(word, "little") + end.to_bytes(word, "little")
        self._ranges += bytes(2 * word)
        return struct.pack("<I", offset)


class _Field(NamedTuple):
    """An attribute as it is written; ``target`` is the offset in the split unit's section of what it refers to."""

    name: int
    form: int
    data: bytes
    target: int = 0


def _uleb(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
