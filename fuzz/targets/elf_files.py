"""ELF files: headers, sections, symbols, notes, debug links, embedded symbols, probes."""

from pathlib import Path

import numpy as np

from fuzz.registry import Read
from insitu.symbols.data_symbols import find_symbol
from insitu.symbols.debug_files import embedded_symbols, find_debug_file
from insitu.symbols.demangle import demangle
from insitu.symbols.elf import Elf
from insitu.symbols.elf_join import with_sections
from insitu.symbols.functions import FunctionTable
from insitu.symbols.usdt_notes import usdt_probes

__all__ = ["elf", "usdt"]

_ADDRESSES = np.array([0, 1, 0x1000, 0x1139, 0x401000, 0x401136, 1 << 47, (1 << 64) - 1], np.uint64)


def elf(directory: Path) -> Read:
    """Everything that a file's headers lead to."""
    (directory / "usr/bin").mkdir(parents=True)
    (directory / "usr/bin/prog.debug").write_bytes(b"\x7fELF, but no more of it")

    def read(data: bytes) -> None:
        found = Elf(data)
        for section in found.sections:
            found.section_bytes(section)
        embedded = embedded_symbols(found)
        functions = FunctionTable(found, found, demangle, more=() if embedded is None else (embedded,))
        for number in functions.find(_ADDRESSES).tolist():
            if number >= 0:
                functions.name(number)
                functions.start(number)
        for number in range(min(len(functions), 50)):
            functions.name(number)
        found.vaddrs_of(_ADDRESSES)
        found.offsets_of(_ADDRESSES)
        find_debug_file(found, Path("/usr/bin/prog"), directory)
        find_symbol(found, "main")
        with_sections(found, {".debug_info": b"x", ".debug_new": b"y"})

    return read


def usdt(directory: Path) -> Read:
    """The notes of <sys/sdt.h>: an input is the section .note.stapsdt."""
    base = Elf((Path(__file__).parent.parent / "corpus/elf/plain").read_bytes())

    def read(data: bytes) -> None:
        image = with_sections(base, {".note.stapsdt": data, ".stapsdt.base": b"\0"})
        assert image is not None
        usdt_probes(Elf(image))

    return read
