"""USDT notes and operands: written by hand after the assembler's syntax, and damaged."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.kernel.calling_convention import MACHINES
from insitu.probe.providers import usdt
from insitu.probe.providers.arguments import Operand
from insitu.probe.providers.usdt import parse_operands
from insitu.symbols.elf import Elf
from insitu.symbols.usdt_notes import UsdtProbe, usdt_probes

X86 = MACHINES["x86_64"].registers


@pytest.fixture(autouse=True)
def _x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usdt, "MACHINE", MACHINES["x86_64"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-4@%edi", Operand(4, True, register=X86["di"].offset)),
        ("8@%rax", Operand(8, False, register=X86["ax"].offset)),
        ("1@%ah", Operand(1, False, register=X86["ax"].offset, shift=8)),
        ("2@%r9w", Operand(2, False, register=X86["r9"].offset)),
        ("-8@$-1", Operand(8, True, constant=-1)),
        ("4@$0x10", Operand(4, False, constant=16)),
        ("8@-16(%rbp)", Operand(8, False, register=X86["bp"].offset, memory=True, displacement=-16)),
        ("-4@(%rdx)", Operand(4, True, register=X86["dx"].offset, memory=True)),
        (
            "8@24(%rax,%rdi,8)",
            Operand(
                8, False, register=X86["ax"].offset, memory=True, index=X86["di"].offset, scale=8, displacement=24
            ),
        ),
        ("8@(,%rcx,4)", Operand(8, False, memory=True, index=X86["cx"].offset, scale=4)),
    ],
)
def test_an_operand_says_size_sign_and_place(text: str, expected: Operand) -> None:
    assert parse_operands(text) == [expected]


def test_operands_are_separated_by_blanks_even_within_them() -> None:
    operands = parse_operands("-4@%edi 8@8(%rax, %rdi, 8) 4@$7")
    assert [operand.size for operand in operands] == [4, 8, 4]
    assert operands[2].constant == 7


def test_aarch64_operands_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usdt, "MACHINE", MACHINES["aarch64"])
    assert parse_operands("-4@w3 8@[sp, 24] 8@[x0] -4@17") == [
        Operand(4, True, register=8 * 3),
        Operand(8, False, register=248, memory=True, displacement=24),
        Operand(8, False, register=0, memory=True),
        Operand(4, True, constant=17),
    ]


@pytest.mark.parametrize("text", ["3@%eax", "4@%zmm0", "8@name(%rip)", "4@", "nonsense", "8@global+4(%rip)"])
def test_an_operand_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InsituError, match="operand"):
        parse_operands(text)


@given(st.text(alphabet="-0123456789@%$()[],abcdefrx +.", max_size=40))
def test_any_text_ends_in_operands_or_an_error(text: str) -> None:
    with suppress(InsituError):
        parse_operands(text)


def _note(address: int, base: int, semaphore: int, *strings: str) -> bytes:
    description = struct.pack("<QQQ", address, base, semaphore) + b"".join(s.encode() + b"\0" for s in strings)
    padded = description + bytes(-len(description) % 4)
    return struct.pack("<III", 8, len(description), 3) + b"stapsdt\0" + padded


def _elf(notes: bytes, base: int) -> Elf:
    """An ELF file of two sections, .note.stapsdt and .stapsdt.base at address ``base``."""
    names = b"\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0"
    sections = [
        (0, 0, 0, 0, 0),
        (1, 7, 0, 64, len(notes)),
        (15, 1, base, 64, 1),
        (29, 3, 0, 64 + len(notes), len(names)),
    ]
    table = b"".join(struct.pack("<IIQQQQIIQQ", n, t, 0, a, o, s, 0, 0, 1, 0) for n, t, a, o, s in sections)
    at = 64 + len(notes) + len(names)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, at, 0, 64, 56, 0, 64, len(sections), 3)
    return Elf(header + notes + names + table)


NOTES = _note(0x1000, 0x2000, 0, "demo", "plain", "-4@%edi") + _note(0x1010, 0x2000, 0x4000, "demo", "gated", "")


def test_notes_hold_places_semaphores_and_operands() -> None:
    assert usdt_probes(_elf(NOTES, 0x2000)) == [
        UsdtProbe("demo", "plain", 0x1000, 0, "-4@%edi"),
        UsdtProbe("demo", "gated", 0x1010, 0x4000, ""),
    ]


def test_a_prelinked_files_addresses_move_with_its_base_section() -> None:
    (plain, gated) = usdt_probes(_elf(NOTES, 0x2500))
    assert (plain.address, plain.semaphore) == (0x1500, 0)
    assert (gated.address, gated.semaphore) == (0x1510, 0x4500)


@settings(max_examples=200)
@given(cut=st.integers(0, len(NOTES)), at=st.integers(0, len(NOTES) - 1), byte=st.integers(0, 255))
def test_damaged_notes_end_the_list(cut: int, at: int, byte: int) -> None:
    damaged = bytearray(NOTES)
    damaged[at] = byte
    assert len(usdt_probes(_elf(bytes(damaged[:cut]), 0x2000))) <= 2
