"""Call frame information of one ELF file: from a virtual address to the row that says how to step to the caller.

Read from .eh_frame, through the sorted table of .eh_frame_hdr where there is one, else from .debug_frame.
Layouts: Linux Standard Base, "Exception Frames", and DWARF 5, 6.4.1. Only functions that are asked for are parsed.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.cfi import Cie, Programs, Row
from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, pointer, sleb128, uleb128
from insitu.symbols.elf import Elf

__all__ = ["CallFrames"]

_ABSPTR, _OMIT, _DATAREL_SDATA4, _DATAREL_SDATA8 = 0x00, 0xFF, 0x3B, 0x3C
_NO_ROW: Final = -1

# Far above what compilers write: bytes of a function's program, and of one file all functions', all programs' and
# states that were asked for.
_MAX_PROGRAM_BYTES: Final = 1 << 16
_MAX_FUNCTIONS: Final = 1 << 21
_MAX_RUN_BYTES: Final = 1 << 24
_MAX_STATES: Final = 1 << 16

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class _Section(NamedTuple):
    """.eh_frame or .debug_frame, whose CIE pointers and ids differ. Data-relative pointers count from ``base``."""

    data: bytes
    address: int
    base: int
    debug: bool
    word_bytes: int


class _Function(NamedTuple):
    """Rows of one FDE: row i holds from ``starts[i]`` on; the last start is the function's end and has no row."""

    starts: U64
    rows: I64


class _Common(NamedTuple):
    """What FDEs of one CIE share, and the interned rows of the states of its programs."""

    cie: Cie
    programs: Programs
    rows: dict[int, int]


class CallFrames:
    """The functions of one ELF file that have call frame information. Corrupt ones are as if absent."""

    def __init__(self, elf: Elf, columns: int) -> None:
        """Read the table of functions; rules of registers from DWARF number ``columns`` on will be dropped."""
        self._columns = columns
        self._functions: dict[int, _Function] = {}
        self._commons: dict[int, _Common | None] = {}
        self._run_bytes = self._states = 0
        header = elf.section(".eh_frame_hdr")
        frames = elf.section(".eh_frame")
        debug = elf.section(".debug_frame")
        base = header.address if header else 0
        word = elf.layout.word_bytes
        self._section = _Section(b"", 0, 0, False, word)
        self._starts, self._entries = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        if frames is not None:
            self._section = _Section(elf.section_bytes(frames), frames.address, base, False, word)
            table = _search_table(elf.section_bytes(header), self._section) if header else None
            self._starts, self._entries = table or self._scan()
        if not len(self._starts) and debug is not None:
            self._section = _Section(elf.section_bytes(debug), debug.address, 0, True, word)
            self._starts, self._entries = self._scan()

    def __len__(self) -> int:
        """How many functions the table holds."""
        return len(self._starts)

    def rows(self, vaddrs: U64, intern: Callable[[Row], int]) -> I64:
        """For each virtual address what ``intern`` gave for its row, -1 where no function covers it."""
        found = np.full(len(vaddrs), _NO_ROW, np.int64)
        index = np.searchsorted(self._starts, vaddrs, side="right") - 1
        functions = [self._function(i, intern) for i in sorted(set(index[index >= 0].tolist()))]
        if functions:
            starts = np.concatenate([function.starts for function in functions])
            rows = np.concatenate([function.rows for function in functions])
            place = np.searchsorted(starts, vaddrs, side="right") - 1
            found = np.where(place >= 0, rows[place], _NO_ROW)
        return found

    def _function(self, index: int, intern: Callable[[Row], int]) -> _Function:
        function = self._functions.get(index)
        if function is None:
            try:
                function = self._parse(int(self._entries[index]), intern)
            except CorruptDwarfError:
                function = _Function(self._starts[index : index + 1], np.full(1, _NO_ROW))
            self._functions[index] = function
        return function

    def _parse(self, entry: int, intern: Callable[[Row], int]) -> _Function:
        data, address, *_ = self._section
        start, size, common, program, end = self._fde(entry)
        limit = start + size
        if limit >> 8 * self._section.word_bytes:
            raise CorruptDwarfError("function beyond the address space")
        self._count(end - program)
        before = len(common.programs)
        starts, states = common.programs.run(data[program:end], address + program, start)
        self._states += len(common.programs) - before
        while starts and starts[-1] >= limit:
            starts.pop()
        known = common.rows
        for state in set(states) - known.keys():
            known[state] = intern(common.programs.row(state))
        rows = [known[state] for state in states[: len(starts)]]
        return _Function(np.array([*starts, limit], np.uint64), np.array([*rows, _NO_ROW], np.int64))

    def _fde(self, entry: int) -> tuple[int, int, _Common, int, int]:
        """Of the FDE at ``entry``: first address, bytes of code, its CIE, and where its program begins and ends."""
        data, address, base, debug, word = self._section
        at, end, width = _extent(data, entry)
        identity, body = fixed(data, at, width)
        if identity == _cie_identity(debug, width):
            raise CorruptDwarfError("a CIE where an FDE should be")
        common = self._common(identity if debug else at - identity)
        if common is None:
            raise CorruptDwarfError("corrupt CIE")
        cie = common.cie
        start, body = pointer(data, body, cie.pointer_encoding, address, base, word)
        size, body = pointer(data, body, cie.pointer_encoding & 0x0F, address, base, word)
        if cie.augmented:
            skipped, body = uleb128(data, body)
            body += skipped
        if body > end:
            raise CorruptDwarfError("FDE beyond its end")
        return start, size, common, body, end

    def _common(self, entry: int) -> _Common | None:
        if entry not in self._commons:
            try:
                cie = _cie(self._section, entry)
                self._count(len(cie.program))
                made = self._commons[entry] = _Common(cie, Programs(cie, self._columns), {})
                self._states += len(made.programs)
            except CorruptDwarfError:
                self._commons[entry] = None
        return self._commons[entry]

    def _count(self, program_bytes: int) -> None:
        self._run_bytes += program_bytes
        if program_bytes > _MAX_PROGRAM_BYTES or self._run_bytes > _MAX_RUN_BYTES or self._states > _MAX_STATES:
            raise CorruptDwarfError("call frame programs are too long")

    def _scan(self) -> tuple[U64, I64]:
        """First address and offset of every FDE, by walking through the section up to the first corrupt one."""
        data, _, _, debug, _ = self._section
        starts: list[int] = []
        entries: list[int] = []
        entry = 0
        while entry < len(data) and len(entries) < _MAX_FUNCTIONS:
            try:
                at, end, width = _extent(data, entry)
                if fixed(data, at, width)[0] != _cie_identity(debug, width):
                    starts.append(self._fde(entry)[0])
                    entries.append(entry)
            except CorruptDwarfError:
                # A terminator (length 0) may stand between two objects' entries.
                end = entry + 4
                if data[entry:end] != b"\0\0\0\0":
                    break
            entry = end
        order = np.argsort(np.array(starts, np.uint64), kind="stable")
        return np.array(starts, np.uint64)[order], np.array(entries, np.int64)[order]


def _search_table(header: bytes, section: _Section) -> tuple[U64, I64] | None:
    """First address and offset of every FDE from .eh_frame_hdr; None if it has no table that can be used."""
    if len(header) < 4 or header[0] != 1:
        return None
    _, frame_encoding, count_encoding, encoding = header[:4]
    if encoding not in (_DATAREL_SDATA4, _DATAREL_SDATA8) or count_encoding == _OMIT:
        return None
    try:
        _, at = pointer(header, 4, frame_encoding, section.base, section.base, section.word_bytes)
        count, at = pointer(header, at, count_encoding, section.base, section.base, section.word_bytes)
    except CorruptDwarfError:
        return None
    dtype = np.dtype("<i4" if encoding == _DATAREL_SDATA4 else "<i8")
    count = min(count, (len(header) - at) // (2 * dtype.itemsize))
    if count <= 0:
        return None
    table = np.frombuffer(header, dtype, 2 * count, at).astype(np.int64).reshape(-1, 2)
    starts = table[:, 0].view(np.uint64) + np.uint64(section.base) & np.uint64((1 << 8 * section.word_bytes) - 1)
    distance = np.uint64((section.base - section.address) & 0xFFFF_FFFF_FFFF_FFFF)
    entries = (table[:, 1].view(np.uint64) + distance).view(np.int64)
    if (starts[1:] < starts[:-1]).any():  # sorted by the linker, but for one that is corrupt
        order = np.argsort(starts, kind="stable")
        starts, entries = starts[order], entries[order]
    return np.ascontiguousarray(starts), np.ascontiguousarray(entries)


def _cie_identity(debug: bool, width: int) -> int:
    """What a CIE has where an FDE has its CIE pointer."""
    return (1 << 8 * width) - 1 if debug else 0


def _extent(data: bytes, entry: int) -> tuple[int, int, int]:
    """Where the entry's contents begin and end, and the width of its CIE pointer. Raises at a terminator."""
    length, at = fixed(data, entry, 4)
    width = 4
    if length == 0xFFFF_FFFF:
        length, at = fixed(data, at, 8)
        width = 8
    end = at + length
    if not length or end > len(data):
        raise CorruptDwarfError("entry beyond the end")
    return at, end, width


def _cie(section: _Section, entry: int) -> Cie:
    data, address, base, debug, word = section
    at, end, width = _extent(data, entry)
    identity, at = fixed(data, at, width)
    if identity != _cie_identity(debug, width):
        raise CorruptDwarfError("not a CIE")
    version, at = fixed(data, at, 1)
    zero = data.find(b"\0", at, end)
    if version not in (1, 3, 4) or zero < 0:
        raise CorruptDwarfError("CIE of an unknown version")
    augmentation, at = data[at:zero], zero + 1
    if augmentation.startswith(b"eh"):  # g++ before 3.0: a pointer to exception data
        at += 8
    if version == 4:
        at += 2  # address size, segment selector size
    code_align, at = uleb128(data, at)
    data_align, at = sleb128(data, at)
    return_register, at = fixed(data, at, 1) if version == 1 else uleb128(data, at)
    encoding, signal, program = _ABSPTR, False, at
    if augmentation.startswith(b"z"):
        size, at = uleb128(data, at)
        program = at + size
        for letter in augmentation[1:].decode("latin-1"):
            if letter == "R":
                encoding, at = fixed(data, at, 1)
            elif letter == "P":  # the personality routine
                kind, at = fixed(data, at, 1)
                _, at = pointer(data, at, kind, address, base, word)
            elif letter == "L":  # encoding of the pointer to language-specific data
                at += 1
            elif letter == "S":
                signal = True
            elif letter not in "BG":  # aarch64: pointers signed with key B, tagged stack
                break
    elif augmentation not in (b"", b"eh"):
        raise CorruptDwarfError("CIE of an unknown augmentation")
    if program > end:
        raise CorruptDwarfError("CIE beyond its end")
    augmented = augmentation[:1] == b"z"
    return Cie(code_align, data_align, return_register, encoding, augmented, signal, data[program:end], word)
