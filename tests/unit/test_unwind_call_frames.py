"""Call frame information, against readelf's reading of the same files."""

import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.symbols.cfi import AT_OFFSET, EXPRESSION, UNDEFINED, VALUE_EXPRESSION, Row
from insitu.symbols.dwarf_bytes import CorruptDwarfError, pointer, sleb128, uleb128
from insitu.symbols.eh_frame import CallFrames
from insitu.symbols.elf import Elf
from insitu.symbols.registers import X86_64

NAMES = dict(
    enumerate(["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)), "ra"])
)

SOURCE = """
#include <alloca.h>
#include <string.h>
#include <stdexcept>
#include <cstdlib>
__attribute__((noinline)) int guarded(int n) { if (n > 3) throw std::runtime_error("deep"); return n; }
__attribute__((noinline)) int caught(int n) {
    try { return guarded(n); } catch (std::exception& e) { return e.what()[0]; }
}
__attribute__((noinline)) int aligned(int n) {
    char wide[64] __attribute__((aligned(64)));
    char *more = (char *)alloca(n);
    memset(wide, n, 64); memset(more, n, n);
    return wide[n & 63] + more[0];
}
__attribute__((noinline)) int branches(int a, int b, int c) {
    if (!a) return b;
    int s = 0;
    for (int i = 0; i < a; i++) { s += caught(i) * b + aligned(c + 1); if (s == 77) return s; }
    return s + std::atoi("4");
}
int main(int argc, char **) { return branches(argc, argc + 1, argc + 2) > 9000; }
"""


def compiled(directory: Path, *options: str) -> Path:
    source = directory / "prog.cc"
    source.write_text(SOURCE)
    subprocess.run(["g++", *options, str(source), "-o", str(directory / "prog")], check=True, capture_output=True)
    return directory / "prog"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("program"), "-O2", "-fcf-protection")


@pytest.fixture(scope="module")
def libc() -> Path:
    return Path(subprocess.check_output(["gcc", "-print-file-name=libc.so.6"], text=True).strip())


def rows_of_readelf(path: Path) -> dict[int, dict[str, str]]:
    """Address -> what readelf says of the CFA and each register from there on."""
    # Its exit status is 1 where it misses a separate debug file, which is of no matter here.
    command = ["readelf", "--wide", "--debug-dump=frames-interp", str(path)]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    rows: dict[int, dict[str, str]] = {}
    columns: list[str] = []
    in_function = False
    common: dict[str, tuple[list[str], list[str]]] = {}
    entry = ""
    for line in text.splitlines():
        if heading := re.match(r"(\w+) \w+ \w+ (?:(CIE)|FDE cie=(\w+) pc=(\w+)\.\.(\w+))", line):
            entry, in_function = heading[1], heading[2] is None
            if in_function and heading[4] != heading[5]:
                # readelf prints no row for a function that has just its CIE's.
                names, values = common.get(heading[3], ([], []))
                rows[int(heading[4], 16)] = dict(zip(names, values, strict=True))
        elif line.startswith("   LOC"):
            columns = line.split()[1:]
        elif re.match(r"[0-9a-f]{8,16} (?!ZERO)", line) and len(words := line.split()) == len(columns) + 1:
            if in_function:
                rows[int(words[0], 16)] = dict(zip(columns, words[1:], strict=True))
            else:
                common[entry] = columns, words[1:]
    return rows


def said(row: Row, names: dict[int, str] = NAMES) -> dict[str, str]:
    """Our row in readelf's words; registers without a rule left out."""
    cfa = "exp" if isinstance(row.cfa, bytes) else f"{names[row.cfa[0]]}{row.cfa[1]:+}"
    words = {"CFA": cfa}
    for register, kind, operand in row.rules:
        if kind == AT_OFFSET:
            words[names[register]] = f"c{operand:+}"
        elif kind == EXPRESSION:
            words[names[register]] = "exp"
        elif kind == VALUE_EXPRESSION:
            words[names[register]] = "vexp"
        elif kind == UNDEFINED:
            continue
        else:
            words[names[register]] = f"{kind} {operand!r}"
    return words


def compare(path: Path) -> int:
    expected = rows_of_readelf(path)
    frames = CallFrames(Elf(path), X86_64.columns)
    rows: list[Row] = []
    numbers = frames.rows(np.array(sorted(expected), np.uint64), lambda row: rows.append(row) or len(rows) - 1)
    for address, number in zip(sorted(expected), numbers.tolist(), strict=True):
        wanted = {name: word for name, word in expected[address].items() if word not in ("u", "s")}
        assert number >= 0, f"{address:#x} is covered by no function"
        assert said(rows[number]) == wanted, f"{address:#x}"
    return len(expected)


def test_every_row_of_a_program_is_what_readelf_says(program: Path) -> None:
    assert compare(program) > 30


def test_every_row_of_the_c_library_is_what_readelf_says(libc: Path) -> None:
    assert compare(libc) > 10_000


def test_without_the_search_table_the_functions_are_found_by_walking_through_the_section(program: Path) -> None:
    image = bytearray(program.read_bytes())
    header = Elf(bytes(image)).section(".eh_frame_hdr")
    assert header
    image[header.offset + 3] = 0xFF  # DW_EH_PE_omit: there is no table
    with_table, without = CallFrames(Elf(program), 17), CallFrames(Elf(bytes(image)), 17)
    assert len(with_table) == len(without) > 5
    addresses = np.arange(0x1000, 0x3000, dtype=np.uint64)
    assert rows_at(with_table, addresses) == rows_at(without, addresses)


def test_a_file_with_just_debug_frame_is_read_too(tmp_path: Path) -> None:
    source = (
        "int f(int n) { volatile char a[64]; a[n] = 1; return a[0] + n; } int g(int n) { return f(n) * f(n + 1); }"
    )
    (tmp_path / "prog.c").write_text(source)
    options = ["-O1", "-g", "-fno-inline", "-fno-asynchronous-unwind-tables", "-shared", "-nostdlib"]
    subprocess.run(["gcc", *options, "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    path = tmp_path / "prog"
    elf = Elf(path)
    assert not elf.section_bytes(".eh_frame")
    assert elf.section(".debug_frame")
    assert compare(path) > 5


def rows_at(frames: CallFrames, addresses: np.ndarray) -> list[Row | None]:
    rows: list[Row] = []
    numbers = frames.rows(addresses, lambda row: rows.append(row) or len(rows) - 1)
    return [rows[number] if number >= 0 else None for number in numbers.tolist()]


def test_addresses_between_and_beyond_functions_have_no_row(program: Path) -> None:
    frames = CallFrames(Elf(program), 17)
    assert rows_at(frames, np.array([0, 2**64 - 1, 2**63], np.uint64)) == [None] * 3


def test_a_program_that_is_far_too_long_leaves_its_function_without_rows(tmp_path: Path) -> None:
    source = "int main(void) { return 0; }\n"
    for name, count in (("short_one", 100), ("long_one", 2_000_000)):  # DW_CFA_remember_state
        body = f".rept {count}\n.cfi_escape 0x0a\n.endr\nret\n.cfi_endproc\n.size {name}, .-{name}\n"
        source += f'asm(R"(.type {name}, @function\n.globl {name}\n{name}: .cfi_startproc\n{body})");\n'
    (tmp_path / "long.cc").write_text(source)
    subprocess.run(["g++", "-o", tmp_path / "long", tmp_path / "long.cc"], check=True)
    elf = Elf(tmp_path / "long")
    symbols = elf.symbols(".symtab")
    assert symbols is not None
    at = {symbols.name(int(entry["name"])): int(entry["value"]) for entry in symbols.entries}
    found = rows_at(CallFrames(elf, 17), np.array([at[b"main"], at[b"short_one"], at[b"long_one"]], np.uint64))
    assert [row is not None for row in found] == [True, True, False]


def test_flipped_bits_in_the_frame_sections_of_real_files_raise_nothing(program: Path) -> None:
    original = program.read_bytes()
    elf = Elf(original)
    places = [elf.section(name) for name in (".eh_frame", ".eh_frame_hdr")]
    generator = random.Random(4)
    addresses = np.arange(0x1000, 0x2000, 3, dtype=np.uint64)
    for _ in range(300):
        image = bytearray(original)
        for _ in range(generator.choice([1, 3, 20])):
            section = generator.choice(places)
            assert section
            image[section.offset + generator.randrange(section.size)] ^= 1 << generator.randrange(8)
        rows_at(CallFrames(Elf(bytes(image)), 17), addresses)


def test_sections_cut_off_anywhere_raise_nothing(program: Path) -> None:
    elf = Elf(program)
    section = elf.section(".eh_frame")
    assert section
    for length in range(0, section.size, 7):
        image = program.read_bytes()[: section.offset + length]
        headers = program.read_bytes()[elf.size - 64 * 40 :]
        rows_at(CallFrames(Elf(image + headers), 17), np.arange(0x1000, 0x1400, 16, dtype=np.uint64))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=24), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_pointers_of_any_encoding_and_bytes_are_read_or_refused(data: bytes, encoding: int, address: int) -> None:
    try:
        value, end = pointer(data, 0, encoding, address)
    except CorruptDwarfError:
        return
    assert 0 <= value < 2**64
    assert 0 <= end <= len(data)


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(-(2**62), 2**62))
def test_leb128_numbers_come_back(unsigned: int, signed: int) -> None:
    def encode(value: int, more: int) -> bytes:
        groups = []
        while True:
            groups.append(value & 0x7F)
            value >>= 7
            if (value == 0 and not (more and groups[-1] & 0x40)) or (value == -1 and groups[-1] & 0x40):
                return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])

    assert uleb128(encode(unsigned, 0), 0) == (unsigned, len(encode(unsigned, 0)))
    assert sleb128(encode(signed, 1), 0) == (signed, len(encode(signed, 1)))
