"""Layouts of the structures of ELF files, of both classes: elf(5), `<elf.h>`.

Those of 32-bit files have the same fields as those of 64-bit files, narrower and partly in another order.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ELF32", "ELF64", "IDENT_BYTES", "NHDR", "ElfLayout", "widened"]

IDENT_BYTES: Final = 16
NHDR: Final = np.dtype([("namesz", "<u4"), ("descsz", "<u4"), ("type", "<u4")])
"""Elf32_Nhdr and Elf64_Nhdr, which are alike."""


class ElfLayout(NamedTuple):
    """The structures of one class of ELF files. ``symbol_shift`` is that of ELF32_R_SYM or ELF64_R_SYM."""

    word_bytes: int
    ehdr: np.dtype[np.void]
    phdr: np.dtype[np.void]
    shdr: np.dtype[np.void]
    sym: np.dtype[np.void]
    chdr: np.dtype[np.void]
    rel: np.dtype[np.void]
    rela: np.dtype[np.void]
    symbol_shift: int


def _dtype(fields: str) -> np.dtype[np.void]:
    """The dtype of fields such as "name:4 value:8": names and sizes in bytes."""
    return np.dtype([(name, f"<u{size}") for name, size in (field.split(":") for field in fields.split())])


def _ehdr(word: int) -> np.dtype[np.void]:
    fields = (
        f"type:2 machine:2 version:4 entry:{word} phoff:{word} shoff:{word} flags:4 ehsize:2 "
        "phentsize:2 phnum:2 shentsize:2 shnum:2 shstrndx:2"
    )
    return np.dtype([("ident", f"V{IDENT_BYTES}"), *_dtype(fields).descr])


def _shdr(word: int) -> np.dtype[np.void]:
    return _dtype(
        f"name:4 type:4 flags:{word} addr:{word} offset:{word} size:{word} link:4 info:4 "
        f"addralign:{word} entsize:{word}"
    )


ELF64: Final = ElfLayout(
    word_bytes=8,
    ehdr=_ehdr(8),
    phdr=_dtype("type:4 flags:4 offset:8 vaddr:8 paddr:8 filesz:8 memsz:8 align:8"),
    shdr=_shdr(8),
    sym=_dtype("name:4 info:1 other:1 shndx:2 value:8 size:8"),
    chdr=_dtype("type:4 reserved:4 size:8 addralign:8"),
    rel=_dtype("offset:8 info:8"),
    rela=_dtype("offset:8 info:8 addend:8"),
    symbol_shift=32,
)

ELF32: Final = ElfLayout(
    word_bytes=4,
    ehdr=_ehdr(4),
    phdr=_dtype("type:4 offset:4 vaddr:4 paddr:4 filesz:4 memsz:4 flags:4 align:4"),
    shdr=_shdr(4),
    sym=_dtype("name:4 value:4 size:4 info:1 other:1 shndx:2"),
    chdr=_dtype("type:4 size:4 addralign:4"),
    rel=_dtype("offset:4 info:4"),
    rela=_dtype("offset:4 info:4 addend:4"),
    symbol_shift=8,
)


def widened(records: NDArray[np.void], layout: np.dtype[np.void]) -> NDArray[np.void]:
    """Records in the 64-bit layout of the same structure; those that have it already come back as they are."""
    if records.dtype == layout:
        return records
    wide = np.zeros(len(records), layout)
    for name in layout.names or ():
        wide[name] = records[name]
    return wide
