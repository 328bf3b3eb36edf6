"""DWARF: units and entries, line tables' files, split units, what symbolic and drgn read, kept line tables."""

import contextlib
import os
import time
from pathlib import Path

import numpy as np

from fuzz.bundle import is_bundle, unpack
from fuzz.registry import Read
from insitu.errors import InsituError
from insitu.record.ftrace.fetch_arguments import fetched, located
from insitu.record.user_functions import traced_functions
from insitu.symbols import line_table
from insitu.symbols.btf import Btf
from insitu.symbols.dwarf_bytes import CorruptDwarfError
from insitu.symbols.dwarf_prototypes import prototypes_at
from insitu.symbols.dwarf_scopes import Scopes
from insitu.symbols.dwarf_units import Abbreviations, Strings, entries
from insitu.symbols.dwarf_units import units as units_of
from insitu.symbols.elf import Elf
from insitu.symbols.elf_join import with_sections
from insitu.symbols.line_files import line_files
from insitu.symbols.prototypes import Prototype, Recorded, call_text, captures, result_text
from insitu.symbols.registers import X86_64
from insitu.symbols.split_dwarf import joined
from insitu.symbols.split_files import skeletons
from insitu.symbols.symcache import Symcache as KeptLines
from insitu.symbols.type_process import ENUMERATOR, FOUND, FUNCTION, TYPE, Types

__all__ = ["lines", "prototypes", "scopes", "split", "symcache", "types", "units", "user_functions"]

_ADDRESSES = np.array([*range(0, 0x3000, 13), 1 << 40, (1 << 64) - 1], np.uint64)
_TAGS = frozenset({0x11, 0x2E, 0x1D, 0x0B, 0x39, 0x13})
_NAMES = frozenset({0x03, 0x10, 0x11, 0x12, 0x1B, 0x31, 0x47, 0x55, 0x58, 0x6E, 0x76})


def units(directory: Path) -> Read:
    """The sections of a program, whose units and entries are walked."""

    def read(data: bytes) -> None:
        of = unpack(data) if is_bundle(data) else {}
        info, abbreviations = of.get(".debug_info", b""), Abbreviations(of.get(".debug_abbrev", b""))
        strings = Strings(
            of.get(".debug_str", b""), of.get(".debug_line_str", b""), of.get(".debug_str_offsets", b""), 8
        )
        for unit in units_of(info):
            with contextlib.suppress(CorruptDwarfError):
                for entry in entries(info, unit, abbreviations, _TAGS, _NAMES):
                    for attribute in entry.attributes.values():
                        strings.of(attribute)
        for offset in (0, 100):
            with contextlib.suppress(CorruptDwarfError):
                line_files(of.get(".debug_line", b""), offset, b"/src", strings.at)
        list(skeletons(info, abbreviations, strings))

    return read


def split(directory: Path) -> Read:
    """A program "prog", its package "prog.dwp", and units of their own, "*.dwo"."""

    def read(data: bytes) -> None:
        members = unpack(data) if is_bundle(data) else {}
        for name, content in members.items():
            (directory / Path(name).name).write_bytes(content)
        try:
            image = joined(Elf(members.get("prog", b"")), [(Path("/prog"), directory)], directory).image
            if image is not None:
                Elf(image).section_bytes(".debug_info")
        finally:
            for name in members:
                (directory / Path(name).name).unlink(missing_ok=True)

    return read


def lines(directory: Path) -> Read:
    """A program with DWARF, which symbolic reads in a process of its own."""
    setattr(line_table, "own_cache", lambda kind: None)  # noqa: B010 - keep nothing
    path = directory / "prog"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = line_table.LineTable.of(Elf(path))
        if found is not None:
            found.find(_ADDRESSES)

    return read


def scopes(directory: Path) -> Read:
    """The sections of a program: what is visible at addresses, and how a dynamic event fetches it."""
    base = Elf((Path(__file__).parent.parent / "corpus/elf/plain").read_bytes())

    def read(data: bytes) -> None:
        image = with_sections(base, unpack(data) if is_bundle(data) else {".debug_info": data})
        of = Scopes(Elf(image or b""))
        for address in (0, 0x1040, 0x1150, 0x1154, 0x1160, 0x1170, 1 << 47):
            scope = of.at(address)
            for each in scope.variables if scope is not None else ():
                of.members(each.type.target or each.type)
                if scope is not None and each.location is not None:
                    place = located(each.location, scope.frame_base, (7, 16))
                    if place is not None:
                        fetched(place, each.type, X86_64)

    return read


def prototypes(directory: Path) -> Read:
    """The sections of a program: prototypes of its functions, and how calls of them are shown."""
    base = Elf((Path(__file__).parent.parent / "corpus/elf/plain").read_bytes())
    names = dict.fromkeys((*range(0x1000, 0x1200), 0), "f") | {1 << 47: "f.isra.0"}
    words = (7, 1 << 40, 0, (1 << 64) - 1, 5, 6)

    def read(data: bytes) -> None:
        image = with_sections(base, unpack(data) if is_bundle(data) else {".debug_info": data})
        for found in prototypes_at(Elf(image or b""), names, time.monotonic() + 3).values():
            known = Prototype.of_json(found.as_json())
            assert known == found
            captures(known)
            call_text(known, Recorded(words, (b"a", None), (data[:64].ljust(64, b"\0"), None, bytes(64))))
            result_text(known, Recorded(words[:2], (b"a",), (bytes(64), None)))

    return read


def user_functions(directory: Path) -> Read:
    """A program whose functions, library calls and their ends are looked for."""
    path = directory / "prog"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(InsituError):
            traced_functions(Elf(path), [], [], library=True)

    return read


def types(directory: Path) -> Read:
    """A program with DWARF, whose types drgn reads: here in this process."""
    path = directory / "prog"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = Types(str(path), [os.open(path, os.O_RDONLY)])
        for what, name in ((FUNCTION, "main"), (TYPE, "struct pair"), (TYPE, "number"), (ENUMERATOR, "RED")):
            state, number, _, body = found.ask(what, name)
            if state == FOUND:
                Btf(body, "types").type(number).definition()

    return read


def symcache(directory: Path) -> Read:
    """A kept line table, which may be damaged but is our own."""

    def read(data: bytes) -> None:
        try:
            kept = KeptLines(data)
        except ValueError:
            return
        kept.find(_ADDRESSES)

    return read
