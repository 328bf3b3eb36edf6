"""Reads ELF files: sections, segments, notes, symbol tables, all in the 64-bit layouts of `elf_layout`."""

import errno
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.foreign_files import file_identity, open_foreign
from insitu.symbols.elf_compression import expanded
from insitu.symbols.elf_layout import ELF32, ELF64, IDENT_BYTES, NHDR, ElfLayout, widened
from insitu.symbols.read_budget import MAX_SECTION_BYTES, ReadBudget, is_there, megabytes

__all__ = ["NO_ADDRESS", "DebugLink", "Elf", "Section", "SymbolTable"]

NO_ADDRESS: Final = 0xFFFF_FFFF_FFFF_FFFF
"""What `Elf.vaddrs_of` and `Elf.offsets_of` return where no segment covers an offset or address."""

_LAYOUTS: Final = {1: ELF32, 2: ELF64}  # by EI_CLASS
_PT_LOAD, _PT_NOTE, _PF_X = 1, 4, 1
_SHT_NOTE, _SHT_NOBITS, _SHF_COMPRESSED = 7, 8, 0x800
_PN_XNUM, _SHN_XINDEX = 0xFFFF, 0xFFFF
_NT_GNU_BUILD_ID = 3

# Far above what linkers make.
_MAX_SECTIONS, _MAX_SEGMENTS, _MAX_NOTE_AREAS = 1 << 17, 1 << 16, 64
_MAX_SECTION_NAME_BYTES, _MAX_SECTION_NAMES_BYTES = 256, 16 << 20
_MAX_SYMBOLS = 1 << 22
_MAX_SYMBOL_NAME_BYTES = 1 << 14
_MAX_BUILD_ID_BYTES = 64
_MAX_LINK_BYTES = 1 << 13
_OUR_ROOT: Final = Path("/")

U64 = NDArray[np.uint64]


class Section(NamedTuple):
    """A section header. ``offset`` and ``size`` are bytes in the file; ``compressed`` if SHF_COMPRESSED."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int
    entry_size: int
    compressed: bool

    @property
    def in_file(self) -> bool:
        """Whether the file holds the section's bytes (separate debug files leave those of code out)."""
        return self.type != _SHT_NOBITS and self.size > 0


class DebugLink(NamedTuple):
    """What .gnu_debuglink says: the debug file's name and the CRC-32 of its contents."""

    name: str
    crc: int


class SymbolTable(NamedTuple):
    """Entries of a symbol table (fields name, info, other, shndx, value, size, as in Elf64_Sym) and its strings."""

    entries: NDArray[np.void]
    strings: bytes

    def name(self, offset: int) -> bytes:
        """The name at ``offset`` of the string table; empty where there is none."""
        most = offset + _MAX_SYMBOL_NAME_BYTES
        end = self.strings.find(b"\0", offset, most)
        return self.strings[offset : end if end >= 0 else most]

    def names(self, offsets: Sequence[int]) -> Iterator[bytes]:
        """The names at many offsets; none from where they are far longer than all strings (names share tails)."""
        left = 4 * len(self.strings) + _MAX_SYMBOL_NAME_BYTES
        for offset in offsets:
            name = self.name(offset) if left > 0 else b""
            left -= len(name)
            yield name


class Elf:
    """One little-endian ELF file or image of 32 or 64 bits. What its headers place outside of it counts as absent.

    Only what is asked for is read, with pread: mapped files kill their reader when they are truncated.
    ``path`` is where it is as seen from the directory ``root``.
    """

    def __init__(
        self,
        source: str | Path | bytes | int,
        name: str = "",
        *,
        root: str | Path = _OUR_ROOT,
        budget: ReadBudget | None = None,
    ) -> None:
        """Open the file ``source`` below ``root``, or take a descriptor or an image; called ``name`` in messages.

        Sections are read as far as ``budget`` allows (default: one for this file alone).
        Raises OSError if the file cannot be read, and InsituError if it is not a little-endian ELF file.
        """
        self.path, self.root, self._image, self._file = Path(name), Path(root), b"", None
        self.budget = budget or ReadBudget()
        self.refused: dict[str, str] = {}
        """Sections that were not read because of what they would cost, and why."""
        self._counted: set[Section] = set()
        if isinstance(source, bytes):
            self.name, self._image = name or "ELF image", source
            self.size = len(source)
        else:
            self.name = name or str(source)
            if not isinstance(source, int):
                self.path = Path(source)
                source = _open(self.path, self.root, self.name)
            self._file = os.fdopen(source, "rb", buffering=0)
            self.size = os.fstat(source).st_size
        ident = self.read(0, ELF64.ehdr.itemsize)
        if ident[:4] != b"\x7fELF":
            raise InsituError(f"{self.name}: not an ELF file")
        layout = _LAYOUTS.get(ident[4]) if len(ident) > IDENT_BYTES else None
        if len(ident) <= IDENT_BYTES or (layout is not None and len(ident) < layout.ehdr.itemsize):
            raise InsituError(f"{self.name}: ELF header is cut short")
        if layout is None:
            raise InsituError(f"{self.name}: unknown ELF class {ident[4]} (1 is 32-bit, 2 is 64-bit)")
        if ident[5] != 1:
            raise InsituError(f"{self.name}: big-endian ELF files are not supported")
        self.layout: ElfLayout = layout
        self._header = np.frombuffer(ident, layout.ehdr, 1)[0]
        self.type = int(self._header["type"])
        self.machine = int(self._header["machine"])

    @property
    def descriptor(self) -> int | None:
        """The open file, for readers that are not given its name; None for an image."""
        return None if self._file is None else self._file.fileno()

    @property
    def identity(self) -> str:
        """Identifies this file and state of it on this machine, as file_identity(); "" for an image."""
        return "" if self._file is None else file_identity(self._file.fileno())

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` of the file on; fewer where the file ends."""
        if offset >= self.size or size <= 0:
            return b""
        size = min(size, self.size - offset)
        if self._file is None:
            return self._image[offset : offset + size]
        parts = []
        while size and (part := os.pread(self._file.fileno(), size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _records(self, dtype: np.dtype[np.void], offset: int, count: int) -> NDArray[np.void]:
        """``count`` consecutive records, or as many as the file holds."""
        data = self.read(offset, count * dtype.itemsize)
        return np.frombuffer(data, dtype, len(data) // dtype.itemsize)

    @cached_property
    def _headers(self) -> NDArray[np.void]:
        head = self._header
        shdr = self.layout.shdr
        if int(head["shentsize"]) != shdr.itemsize or not head["shoff"]:
            return np.zeros(0, ELF64.shdr)
        offset, count = int(head["shoff"]), int(head["shnum"])
        first = self._records(shdr, offset, 1)
        if not count and len(first):  # more sections than 16 bits count: section 0 has their number
            count = int(first["size"][0])
        return widened(self._records(shdr, offset, min(count, _MAX_SECTIONS)), ELF64.shdr)

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its section headers do."""
        head = self._header
        return int(head["shoff"]) + int(head["shentsize"]) * int(head["shnum"]) > self.size

    @cached_property
    def segments(self) -> NDArray[np.void]:
        """Program headers (fields type, flags, offset, vaddr, paddr, filesz, memsz, align, as in Elf64_Phdr)."""
        head = self._header
        count = int(head["phnum"])
        phdr = self.layout.phdr
        if int(head["phentsize"]) != phdr.itemsize or not head["phoff"]:
            return np.zeros(0, ELF64.phdr)
        if count == _PN_XNUM and len(self._headers):
            count = int(self._headers["info"][0])
        return widened(self._records(phdr, int(head["phoff"]), min(count, _MAX_SEGMENTS)), ELF64.phdr)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All section headers, in the file's order; sections that reach beyond the end of the file are cut."""
        headers = self._headers
        names_at = int(self._header["shstrndx"])
        if names_at == _SHN_XINDEX and len(headers):
            names_at = int(headers["link"][0])
        names = b""
        if names_at < len(headers):
            size = min(int(headers["size"][names_at]), _MAX_SECTION_NAMES_BYTES)
            names = self.read(int(headers["offset"][names_at]), size)
        sections = []
        for name, kind, flags, address, offset, size, link, _, _, entry in headers.tolist():
            end = names.find(b"\0", name, name + _MAX_SECTION_NAME_BYTES)
            text = names[name : max(end, name)].decode(errors="replace")
            kept = size if kind == _SHT_NOBITS else max(min(size, self.size - offset), 0)
            packed = bool(flags & _SHF_COMPRESSED)
            sections.append(Section(text, kind, address, offset, kept, link, entry, packed))
        return tuple(sections)

    @cached_property
    def _by_name(self) -> dict[str, Section]:
        return {section.name: section for section in reversed(self.sections)}

    def section(self, name: str) -> Section | None:
        """The first section called ``name``."""
        return self._by_name.get(name)

    def section_bytes(self, section: str | Section, most: int = MAX_SECTION_BYTES) -> bytes:
        """The contents of a section, decompressed; empty if it is absent, corrupt or without bytes in this file.

        Those that are larger than ``most``, sparse, or more than the budget has left are refused.
        """
        found = self.section(section) if isinstance(section, str) else section
        if found is None or not found.in_file:
            return b""
        if found.size > most or not self.is_there(found.offset, found.size):
            return self._refuse(found, found.size)
        if not found.compressed:
            return self.read(found.offset, found.size) if self._affords(found, found.size) else b""
        data = expanded(self.read(found.offset, found.size), self.layout.chdr)
        if data is None:
            return self._refuse(found, found.size)
        return data if self._affords(found, len(data)) else b""

    def is_there(self, offset: int, size: int) -> bool:
        """Whether a part of the file is small, or not sparse."""
        return self._file is None or is_there(self._file.fileno(), offset, size)

    def _affords(self, section: Section, size: int) -> bool:
        if section in self._counted or self.budget.take(size):
            self._counted.add(section)
            return True
        self._refuse(section, size)
        return False

    def _refuse(self, section: Section, size: int) -> bytes:
        self.refused[section.name] = f"{megabytes(size)}{', compressed' if section.compressed else ''}"
        return b""

    @cached_property
    def build_id(self) -> str:
        """The GNU build id in lower-case hexadecimal; "" if the file has none."""
        segments = self.segments
        areas = [
            (int(row["offset"]), int(row["filesz"]), int(row["align"]))
            for row in segments[segments["type"] == _PT_NOTE]
        ]
        areas += [(section.offset, section.size, 4) for section in self.sections if section.type == _SHT_NOTE]
        for offset, size, align in areas[:_MAX_NOTE_AREAS]:
            found = _build_id(self.read(offset, min(size, 1 << 16)), 8 if align == 8 else 4)
            if found:
                return found
        return ""

    @cached_property
    def debug_link(self) -> DebugLink | None:
        """The separate debug file that .gnu_debuglink names."""
        data = self.section_bytes(".gnu_debuglink", _MAX_LINK_BYTES)
        name, zero, _ = data.partition(b"\0")
        at = (len(name) + 4) & ~3
        if not name or not zero or len(data) < at + 4:
            return None
        return DebugLink(os.fsdecode(name), int.from_bytes(data[at : at + 4], "little"))

    def symbols(self, name: str) -> SymbolTable | None:
        """The symbol table in section ``name`` (".symtab" or ".dynsym"); None if there is none to be read."""
        section = self.section(name)
        if section is None or not section.in_file or section.link >= len(self.sections):
            return None
        sym = self.layout.sym
        data = self.section_bytes(section, _MAX_SYMBOLS * sym.itemsize)
        entries = widened(np.frombuffer(data, sym, len(data) // sym.itemsize), ELF64.sym)
        strings = self.section_bytes(self.sections[section.link])
        return SymbolTable(entries, strings) if strings else None

    @cached_property
    def _loads(self) -> tuple[NDArray[np.void], ...]:
        """PT_LOAD segments that hold bytes: the executable ones, then the others."""
        segments = self.segments
        loads = segments[(segments["type"] == _PT_LOAD) & (segments["filesz"] > 0)]
        executable = (loads["flags"] & _PF_X) != 0
        return loads[executable], loads[~executable]

    def vaddrs_of(self, file_offsets: U64) -> U64:
        """The virtual address, as symbol tables and DWARF count it, of each file offset; NO_ADDRESS where none is.

        Where segments share bytes of the file, the executable one counts.
        """
        return self._translate(file_offsets, "offset", "vaddr")

    def offsets_of(self, vaddrs: U64) -> U64:
        """The file offset of each virtual address; NO_ADDRESS where none is."""
        return self._translate(vaddrs, "vaddr", "offset")

    def _translate(self, places: U64, source: str, target: str) -> U64:
        result = np.full(len(places), NO_ADDRESS, np.uint64)
        for loads in self._loads:
            if not len(loads):
                continue
            rows = loads[np.argsort(loads[source], kind="stable")]
            row = np.searchsorted(rows[source], places, side="right") - 1
            distance = places - rows[source][row]
            hit = (row >= 0) & (distance < rows["filesz"][row]) & (result == NO_ADDRESS)
            result[hit] = (rows[target][row] + distance)[hit]
        return result


def _open(path: Path, root: Path, name: str) -> int:
    try:
        return open_foreign(path, root=root)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):
            raise InsituError(f"{name}: not a regular file") from None
        raise


def _build_id(notes: bytes, align: int) -> str:
    at = 0
    while at + NHDR.itemsize <= len(notes):
        namesz, descsz, kind = np.frombuffer(notes, NHDR, 1, at)[0].tolist()
        name_at = at + NHDR.itemsize
        desc_at = name_at + -(-namesz // align) * align
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + namesz] == b"GNU\0":
            return notes[desc_at : desc_at + min(descsz, _MAX_BUILD_ID_BYTES)].hex()
        at = desc_at + -(-descsz // align) * align
    return ""
