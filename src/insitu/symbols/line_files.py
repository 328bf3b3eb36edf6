"""The file names of a DWARF line table's header (DWARF 5, 6.2.4), by the numbers that DW_AT_call_file has."""

import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, uleb128

__all__ = ["line_files"]

_PATH, _DIRECTORY = 1, 2  # DW_LNCT_*
_STRING, _STRP, _UDATA, _STRX, _LINE_STRP, _BLOCK, _DATA16 = 0x08, 0x0E, 0x0F, 0x1A, 0x1F, 0x09, 0x1E
_SIZES: Final = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, _DATA16: 16, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4}
_MAX_FILES: Final = 1 << 16

Text = Callable[[int, int], bytes]
"""The string that a form and its value refer to."""


def line_files(line: bytes, offset: int, comp_dir: bytes, text: Text) -> dict[int, str]:
    """The path of each file of the line table at ``offset``, by number. Raises CorruptDwarfError."""
    length, at = fixed(line, offset, 4)
    end = at + length
    version, at = fixed(line, at, 2)
    if end > len(line) or version not in (2, 3, 4, 5):
        raise CorruptDwarfError("line table of an unknown version")
    if version == 5:
        at += 2  # address size, segment selector size
    at += 4  # length of the header
    at += (
        1 + (version >= 4) + 1 + 1 + 1
    )  # min instruction length, max operations, default_is_stmt, line base and range
    opcode_base, at = fixed(line, at, 1)
    at += max(opcode_base - 1, 0)
    if version == 5:
        directories, at = _table(line, at, text)
        files, _ = _table(line, at, text)
        tops = [name for name, _ in directories]
        return {number: _join(comp_dir, tops, directory, name) for number, (name, directory) in enumerate(files)}
    tops, at = [comp_dir], at
    while line[at : at + 1] not in (b"\0", b""):
        top, at = _string(line, at)
        tops.append(top)
    at += 1
    found: dict[int, str] = {}
    while line[at : at + 1] not in (b"\0", b"") and len(found) < _MAX_FILES:
        name, at = _string(line, at)
        directory, at = uleb128(line, at)
        _, at = uleb128(line, at)
        _, at = uleb128(line, at)
        found[len(found) + 1] = _join(comp_dir, tops, directory, name)
    return found


def _join(comp_dir: bytes, directories: list[bytes], directory: int, name: bytes) -> str:
    top = directories[directory] if directory < len(directories) else b""
    words = [os.fsdecode(part) for part in (comp_dir, top, name)]
    return os.path.normpath(PurePosixPath(*words))


def _table(line: bytes, at: int, text: Text) -> tuple[list[tuple[bytes, int]], int]:
    """Name and directory's number of each entry of a table of version 5."""
    count, at = fixed(line, at, 1)
    formats = []
    for _ in range(count):
        content, at = uleb128(line, at)
        form, at = uleb128(line, at)
        formats.append((content, form))
    entries, at = uleb128(line, at)
    if entries > _MAX_FILES:
        raise CorruptDwarfError("too many files")
    found = []
    for _ in range(entries):
        name, directory = b"", 0
        for content, form in formats:
            if form == _STRING:
                string, at = _string(line, at)
            elif form in (_UDATA, _STRX):
                value, at = uleb128(line, at)
                string = text(form, value) if form == _STRX else b""
            elif form in (_STRP, _LINE_STRP):
                value, at = fixed(line, at, 4)
                string = text(form, value)
            elif form == _BLOCK:
                value, at = uleb128(line, at)
                string, at = b"", at + value
            elif form in _SIZES:
                value, at = fixed(line, at, _SIZES[form])
                string = b""
            else:
                raise CorruptDwarfError(f"form {form:#x} in a line table")
            if content == _PATH:
                name = string
            elif content == _DIRECTORY:
                directory = value
        found.append((name, directory))
    return found, at


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise CorruptDwarfError("string without an end")
    return data[at:end], end + 1
