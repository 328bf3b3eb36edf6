"""Finds split DWARF units: in .dwo files where the compiler left them, or packed in the program's .dwp file.

Sources: DWARF 5, 7.3; for version 4 the GNU extension, whose package index is version 2 of the same format.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.symbols.dwarf_bytes import CorruptDwarfError
from insitu.symbols.dwarf_units import Abbreviations, Entry, Strings, Unit, entries, units
from insitu.symbols.elf import Elf

__all__ = ["Place", "Skeleton", "SplitUnit", "find_split_units", "skeletons"]

# DW_AT_*, and DW_AT_GNU_* of version 4.
COMP_DIR: Final = 0x1B
GNU_DWO_ID: Final = 0x2131
_DWO_NAMES: Final = (0x76, 0x2130)
_SKELETON_ATTRIBUTES: Final = frozenset({0x10, 0x11, COMP_DIR, 0x72, 0x73, 0x76, 0x2130, GNU_DWO_ID, 0x2132, 0x2133})

# DW_SECT_*: the column of a package's index, and the section that it is of, for versions 2 and 5.
_SECTIONS: Final = {1: "info", 3: "abbrev", 4: "line", 6: "str_offsets", 8: "rnglists"}


Place = tuple[Path, Path]
"""A path, and the root directory that it is seen from."""


class Skeleton(NamedTuple):
    """A unit of the program whose entries are in a split unit."""

    unit: Unit
    entry: Entry
    dwo_id: int
    dwo_name: bytes
    comp_dir: bytes


class SplitUnit(NamedTuple):
    """A split unit and its contributions to the sections of its file."""

    unit: Unit
    info: bytes
    abbrev: bytes
    str_offsets: bytes
    strings: bytes
    line: bytes
    rnglists: bytes


def skeletons(info: bytes, abbreviations: Abbreviations, text: Strings) -> Iterator[Skeleton]:
    """The skeleton units of a program's .debug_info."""
    for unit in units(info):
        try:
            entry = next(entries(info, unit, abbreviations, frozenset(), _SKELETON_ATTRIBUTES), None)
        except CorruptDwarfError:
            continue
        if entry is None:
            continue
        name = next((entry.attributes[each] for each in _DWO_NAMES if each in entry.attributes), None)
        if name is not None:
            dwo_id = unit.dwo_id or entry.number(GNU_DWO_ID)
            yield Skeleton(unit, entry, dwo_id, text.of(name), text.of(entry.attributes.get(COMP_DIR)))


def find_split_units(
    beside: Sequence[Place], wanted: Iterable[Skeleton], root: Path
) -> Iterator[tuple[Skeleton, SplitUnit]]:
    """The split unit of each skeleton of a program; those that cannot be had are left out.

    Packages are looked for at ``beside``, where the program and its debug file lie; paths that the compiler wrote
    are seen from ``root``. A unit whose id is not the skeleton's is never used.
    """
    places = [(name, top) for path, top in beside for name in (Path(f"{path}.dwp"), path.with_suffix(".dwp"))]
    packages = [package for package in map(_Package.at, dict.fromkeys(places)) if package is not None]

    @cache
    def opened(place: Place) -> "dict[int, SplitUnit]":
        return _units_of(place)

    for skeleton in wanted:
        units_found = chain(
            (package.unit(skeleton.dwo_id) for package in packages),
            (opened(place).get(skeleton.dwo_id) for place in _places(beside, skeleton, root)),
        )
        found = next((unit for unit in units_found if unit is not None), None)
        if found is not None:
            yield skeleton, found


def _places(beside: Sequence[Place], skeleton: Skeleton, root: Path) -> Iterator[Place]:
    name = os.fsdecode(skeleton.dwo_name)
    if not name or "\0" in name:
        return
    compiled = Path(os.fsdecode(skeleton.comp_dir)) / name
    if compiled.is_absolute():
        yield compiled, root
    for path, top in beside:  # as gdb does, for programs that were moved together with them
        yield path.parent / name, top
        yield path.parent / Path(name).name, top


def _sections(elf: Elf) -> dict[str, bytes]:
    return {name: elf.section_bytes(f".debug_{name}.dwo") for name in (*_SECTIONS.values(), "str")}


def _opened(place: Place) -> Elf | None:
    try:
        return Elf(place[0], root=place[1])
    except (OSError, ValueError, InsituError):
        return None


def _units_of(place: Place) -> dict[int, SplitUnit]:
    """The units of a .dwo file, by id."""
    elf = _opened(place)
    if elf is None:
        return {}
    of = _sections(elf)
    abbreviations = Abbreviations(of["abbrev"])
    found = {}
    for unit in units(of["info"]):
        dwo_id = unit.dwo_id
        if unit.version < 5:
            try:
                entry = next(entries(of["info"], unit, abbreviations, frozenset(), frozenset({GNU_DWO_ID})), None)
            except CorruptDwarfError:
                continue
            dwo_id = entry.number(GNU_DWO_ID) if entry is not None else 0
        found[dwo_id] = SplitUnit(
            unit, of["info"], of["abbrev"], of["str_offsets"], of["str"], of["line"], of["rnglists"]
        )
    return found


class _Package:
    """A .dwp file: the sections of many .dwo files one after the other, and an index by dwo_id."""

    def __init__(self, sections: dict[str, bytes], index: bytes) -> None:
        self._sections = sections
        self._rows: dict[int, dict[str, tuple[int, int]]] = {}
        version, columns, used, slots = np.frombuffer(index, "<u4", 4).tolist() if len(index) >= 16 else (0, 0, 0, 0)
        # A version of 16 bits and padding follow in version 5.
        if (
            version & 0xFFFF not in (2, 5)
            or columns > 16
            or 16 + 12 * slots + 4 * columns * (1 + 2 * used) > len(index)
        ):
            return
        ids = np.frombuffer(index, "<u8", slots, 16).tolist()
        rows = np.frombuffer(index, "<u4", slots, 16 + 8 * slots).tolist()
        table = np.frombuffer(index, "<u4", columns * (1 + 2 * used), 16 + 12 * slots)
        names = [_SECTIONS.get(number, "") for number in table[:columns].tolist()]
        offsets = table[columns : columns * (1 + used)].reshape(used, columns).tolist()
        sizes = table[columns * (1 + used) :].reshape(used, columns).tolist()
        for dwo_id, row in zip(ids, rows, strict=True):
            if 0 < row <= used:
                places = zip(offsets[row - 1], sizes[row - 1], strict=True)
                self._rows[dwo_id] = {name: place for name, place in zip(names, places, strict=True) if name}

    @classmethod
    def at(cls, place: Place) -> "_Package | None":
        """The package at ``place``; None if there is none."""
        elf = _opened(place)
        return cls(_sections(elf), elf.section_bytes(".debug_cu_index")) if elf is not None else None

    def unit(self, dwo_id: int) -> SplitUnit | None:
        """The unit with this id; None if the package has none."""
        row = self._rows.get(dwo_id)
        if row is None:
            return None

        def part(name: str) -> bytes:
            offset, size = row.get(name, (0, 0))
            return self._sections[name][offset : offset + size]

        info = part("info")
        unit = next(units(info), None)
        if unit is None:
            return None
        strings = self._sections["str"]
        return SplitUnit(unit, info, part("abbrev"), part("str_offsets"), strings, part("line"), part("rnglists"))
