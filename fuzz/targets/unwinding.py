"""Call frame information, and stack copies that are unwound by it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fuzz.bundle import is_bundle, unpack
from fuzz.registry import CORPUS, Read
from insitu.symbols.dwarf_expression import evaluate, parse
from insitu.symbols.eh_frame import CallFrames
from insitu.symbols.elf import Elf
from insitu.symbols.elf_join import with_sections
from insitu.symbols.process_map import Mapping, Module, ProcessMap
from insitu.symbols.registers import X86_64
from insitu.symbols.unwind import Unwinder, UserStacks

__all__ = ["call_frames", "expression", "unwind"]

_BASE = 0x5555_0000_0000
_ADDRESSES = np.arange(0, 0x6000, 7, dtype=np.uint64)


def _image(data: bytes) -> tuple[Elf, dict[str, bytes]]:
    """The program with the sections of an input."""
    members = unpack(data) if is_bundle(data) else {}
    image = with_sections(
        Elf((CORPUS / "elf/plain").read_bytes()),
        {name: content for name, content in members.items() if name.startswith(".")},
    )
    assert image is not None
    return Elf(image), members


def call_frames(directory: Path) -> Read:
    """.eh_frame with its header, and .debug_frame: an input has the sections that are put into a program."""

    def read(data: bytes) -> None:
        frames = CallFrames(_image(data)[0], X86_64.pc + 1)
        rows: list[object] = []

        def intern(row: object) -> int:
            rows.append(row)
            return len(rows) - 1

        frames.rows(_ADDRESSES, intern)
        frames.rows(np.array([(1 << 64) - 1, 1 << 63], np.uint64), intern)

    return read


def unwind(directory: Path) -> Read:
    """An input has sections of the program, user registers ("registers") and a stack copy ("stack")."""
    mask = (1 << 24) - 1

    def read(data: bytes) -> None:
        image, members = _image(data)
        count = mask.bit_count()
        raw = members.get("registers", b"").ljust(16 * count, b"\0")[: 16 * count]
        registers = np.frombuffer(raw, np.uint64).reshape(2, count)
        stack = np.frombuffer(members.get("stack", b""), np.uint8)
        stacks = UserStacks(
            registers,
            mask,
            stack,
            np.zeros(2, np.int64),
            np.array([len(stack), len(stack) // 2]),
            np.array([0, -1], np.int32),
            np.array([2, 1], np.uint64),
        )
        spaces = ProcessMap([Module("/prog")], [(Mapping(_BASE, _BASE + 0x10000, 0, 0),)])
        Unwinder(spaces, lambda module: image, mark_cut=True, frame_pointers=True).unwind(stacks)

    return read


def expression(directory: Path) -> Read:
    """One DWARF expression, evaluated for three samples."""
    lanes = np.array([1, 1 << 40, (1 << 64) - 8], np.uint64)

    def register(number: int, some: NDArray[np.int64]) -> NDArray[np.uint64]:
        return lanes[some] + np.uint64(number & 31)

    def memory(
        addresses: NDArray[np.uint64], some: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        return addresses ^ np.uint64(0x55), addresses < np.uint64(1 << 62)

    def read(data: bytes) -> None:
        for word_bytes in (4, 8):
            found = parse(data, word_bytes)
            if found is not None:
                evaluate(found, lanes, register, memory)

    return read
