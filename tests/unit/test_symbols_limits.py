"""Files made to cost memory or time lose their own symbols, are named in a note, and cost nothing else."""

import lzma
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from insitu.symbols.elf import Elf
from insitu.symbols.jit_map import JitMap
from insitu.symbols.process_map import Module
from insitu.symbols.read_budget import ReadBudget
from insitu.symbols.symbolizer import Symbolizer

from .limited import limited
from .symbols_peer import compiled

PROGRAM_C = "int work(int x) { return x * 3; }\nint main(int argc, char **argv) { return work(argc); }\n"

NAMES = """
program, good, *offsets = sys.argv[1:]
symbolizer = Symbolizer()
for path in (program, good):
    chains = symbolizer.user(Module(path), np.array([int(at) for at in offsets], np.uint64))
    print(*[chain[-1].function for chain in chains], *[Path(chain[-1].file).name for chain in chains])
print(*symbolizer.notes, sep='\\n')
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return compiled(tmp_path, PROGRAM_C, "-g")


@pytest.fixture
def good(program: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(program, tmp_path / "good"))


def names(program: Path, good: Path) -> tuple[str, str, list[str]]:
    """The function and source file at the same offset in two files, and the notes."""
    elf = Elf(good)
    symbols = elf.symbols(".symtab")
    assert symbols is not None
    (value,) = [int(e["value"]) for e in symbols.entries if symbols.name(int(e["name"])) == b"work"]
    offset = value - int(elf.section(".text").address) + elf.section(".text").offset  # type: ignore[union-attr]
    first, second, *notes = limited(NAMES, program, good, offset).splitlines()
    return first, second, [note for note in notes if note]


def patched(program: Path, section: str, **fields: int) -> None:
    """Change fields of a section's header."""
    elf = Elf(program)
    head = struct.unpack_from("<Q", elf.read(0, 64), 40)[0]
    index = [each.name for each in elf.sections].index(section)
    place = {"flags": 8, "offset": 24, "size": 32}
    with program.open("r+b") as file:
        for name, value in fields.items():
            file.seek(head + 64 * index + place[name])
            file.write(struct.pack("<Q", value))


@pytest.mark.parametrize("section", [".strtab", ".symtab"])
def test_a_sparse_table_of_symbols_costs_its_own_names_only(program: Path, good: Path, section: str) -> None:
    size = 100 << 30
    patched(program, section, size=size)
    os.truncate(program, size + (1 << 20))
    first, second, notes = names(program, good)
    assert first.startswith("prog+0x")
    assert second == "work prog.c"
    assert notes == [f"{program}: not read: {section} (107 GB), lines (a file of 107 GB)"]


def test_sparse_debug_information_costs_its_own_lines_only(program: Path, good: Path) -> None:
    size = 100 << 30
    patched(program, ".debug_info", size=size)
    os.truncate(program, size + (1 << 20))
    first, second, notes = names(program, good)
    assert (first.strip(), second) == ("work", "work prog.c")
    assert notes == [f"{program}: not read: .debug_info (107 GB)"]


def zlib_bomb(size: int) -> bytes:
    """A section of SHF_COMPRESSED that expands to zeros."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated
    return struct.pack("<IIQQ", 1, 0, size, 1) + head + block * (size >> 20) + packer.flush()


@pytest.mark.parametrize("section", [".debug_info", ".strtab"])
def test_a_compressed_section_that_expands_to_gigabytes_is_not_expanded_here(
    program: Path, good: Path, section: str
) -> None:
    bomb = zlib_bomb(4 << 30)
    assert len(bomb) < 5 << 20
    at = program.stat().st_size
    with program.open("ab") as file:
        file.write(bomb)
    patched(program, section, flags=0x800, offset=at, size=len(bomb))
    first, second, notes = names(program, good)
    assert second == "work prog.c"
    assert first.strip() == ("work" if section == ".debug_info" else "work prog.c")
    assert len(notes) == 1 and notes[0].startswith(f"{program}: not read: ")


def test_the_checksum_of_a_sparse_file_is_not_computed(program: Path, good: Path, tmp_path: Path) -> None:
    debug = tmp_path / "prog.debug"
    subprocess.run(
        ["objcopy", "--only-keep-debug", "--remove-section=.note.gnu.build-id", program, debug], check=True
    )
    subprocess.run(["strip", "--remove-section=.note.gnu.build-id", program], check=True)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", program], check=True)
    os.truncate(debug, 60 << 30)
    first, second, _ = names(program, good)
    assert first.startswith("prog+0x") and second == "work prog.c"


def test_embedded_symbols_that_expand_far_are_not_read(program: Path, good: Path, tmp_path: Path) -> None:
    packer = lzma.LZMACompressor(preset=0)
    with (tmp_path / "bomb.xz").open("wb") as file:
        file.write(packer.compress(b"\x7fELF\2\1\1" + bytes((1 << 20) - 7)))
        for _ in range(255):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    subprocess.run(["strip", program], check=True)
    subprocess.run(["objcopy", f"--add-section=.gnu_debugdata={tmp_path / 'bomb.xz'}", program], check=True)
    first, second, notes = names(program, good)
    assert first.startswith("prog+0x") and second == "work prog.c"
    assert notes == [f"{program}: not read: .gnu_debugdata (more than 67 MB)"]


# DW_TAG_compile_unit, DW_TAG_subprogram and DW_TAG_inlined_subroutine with children, and what they have
_ABBREVIATIONS = bytes.fromhex("011101 0308 110112070000 022e01 0308 110112070000 031d01 3113 110112070000 00")
_RANGE = struct.pack("<QQ", 0x1000, 1 << 16)  # the program's code
_UNIT = b"\1unit\0" + _RANGE


def _dwarf_unit(entries: bytes) -> bytes:
    return struct.pack("<IHIB", 7 + len(entries), 4, 0, 8) + entries


def many_units() -> bytes:
    return _dwarf_unit(_UNIT + b"\0") * 500_000


def deep_nesting() -> bytes:
    depth = 500_000
    return _dwarf_unit(_UNIT + (b"\2f\0" + _RANGE) * depth + bytes(depth + 1))


def cycle() -> bytes:
    function, inlined = b"\2f\0" + _RANGE, b"\3" + struct.pack("<I", 11 + len(_UNIT) + 19) + _RANGE
    return _dwarf_unit(_UNIT + function + inlined * 2 + bytes(4))


def deep_inlining() -> bytes:
    depth = 100_000
    function, inlined = b"\2f\0" + _RANGE, b"\3" + struct.pack("<I", 11 + len(_UNIT)) + _RANGE
    return _dwarf_unit(_UNIT + function + inlined * depth + bytes(depth + 2))


@pytest.mark.parametrize("made", [many_units, deep_nesting, cycle, deep_inlining])
def test_debug_information_made_to_be_expensive_costs_no_other_file_its_lines(
    program: Path, good: Path, made: Callable[[], bytes]
) -> None:
    at, info = program.stat().st_size, made()
    with program.open("ab") as file:
        file.write(info + _ABBREVIATIONS)
    patched(program, ".debug_info", offset=at, size=len(info))
    patched(program, ".debug_abbrev", offset=at + len(info), size=len(_ABBREVIATIONS))
    first, second, notes = names(program, good)
    assert first.split()[0] == "work" and second == "work prog.c"
    assert all(note.startswith(f"{program}: not read: lines (") for note in notes)


def test_a_reader_that_crashes_costs_lines_only(program: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program.parent / "symbolic").mkdir()
    (program.parent / "symbolic/_lowlevel.py").write_text(
        "import os, signal\n"
        "if os.path.getsize('/proc/self/fd/' + __import__('sys').argv[1]) % 2:\n"
        "    os.kill(os.getpid(), signal.SIGBUS)\n"
        "raise ImportError\n"
    )
    with program.open("ab") as file:
        file.write(bytes(1 + program.stat().st_size % 2))
    monkeypatch.setenv("PYTHONPATH", f"{program.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    first, second, notes = names(program, good)
    assert (first.strip(), second.split()[0]) == ("work", "work")
    assert f"{program}: not read: lines (its reader ended with SIGBUS)" in notes


def test_more_sections_than_any_file_has_are_not_all_read(program: Path, good: Path) -> None:
    raw = bytearray(program.read_bytes())
    head = len(raw) + 64
    count = 300_000
    struct.pack_into("<Q", raw, 40, head - 64)  # e_shoff
    struct.pack_into("<HH", raw, 60, 0, 1)  # e_shnum, e_shstrndx: section 0 has their number
    first = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, count, 0, 0, 0, 0)
    other = struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 0, len(raw), 0, 0, 0, 0)
    program.write_bytes(bytes(raw) + first + other * (count - 1))
    shown, second, _ = names(program, good)
    assert shown.startswith("prog+0x") and second == "work prog.c"


def test_symbols_with_one_endless_name_are_cut(program: Path) -> None:
    size = 64 << 20
    at = program.stat().st_size
    with program.open("ab") as file:
        file.write(b"x" * size)
    patched(program, ".strtab", offset=at, size=size)
    symbols = Elf(program).symbols(".symtab")
    assert symbols is not None
    offsets = [1] * 1_000_000
    assert len(symbols.name(1)) == 1 << 14
    assert sum(map(len, symbols.names(offsets))) < 5 * size


def test_maps_of_millions_of_lines_are_read_up_to_a_limit(tmp_path: Path) -> None:
    code = """
from insitu.symbols.jit_map import JitMap
text = b''.join(b'%x 10 f%d\\n' % (i * 16, i) for i in range(1000)) + b'1000000 20 many\\n' * 2_200_000
found = JitMap(text)
print(len(text) >> 20, len(found), found.is_cut, found.find(np.array([0x25, 0x1000001], np.uint64)))
"""
    assert limited(code, megabytes=600) == "33 2097152 True ['f2', 'many']\n"


def test_a_hundred_bad_files_are_twenty_notes(program: Path) -> None:
    patched(program, ".strtab", size=1 << 40)
    os.truncate(program, 1 << 41)
    paths = [program.with_name(f"bad{i}") for i in range(100)]
    symbolizer = Symbolizer(inlines=False)
    for path in paths:
        path.symlink_to(program)
        symbolizer.user(Module(str(path)), np.array([0x1000], np.uint64))
    assert len(symbolizer.notes) == 20
    assert symbolizer.notes[-1] == "81 more files have no symbols or no lines"


def test_maps_of_many_processes_are_read_within_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    made = JitMap(b"1000 100 function\n")
    monkeypatch.setattr("insitu.symbols.symbolizer.read_jit_map", lambda pid: made)
    symbolizer = Symbolizer()
    monkeypatch.setattr(symbolizer, "_budget", SmallBudget(2 * made.size))
    found = [symbolizer.anonymous(pid, np.array([0x1000], np.uint64))[0][0].function for pid in (1, 2, 3)]
    assert found == ["function", "function", "0x1000"]
    assert symbolizer.notes == ["perf-3.map: not read: all maps and symbol tables are too large together"]


class SmallBudget(ReadBudget):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size


def test_the_tables_of_many_files_are_read_within_one_budget(program: Path, good: Path) -> None:
    sizes = [section.size for section in Elf(good).sections if section.name in (".symtab", ".strtab")]
    budget = SmallBudget(2 * sum(sizes) - 1)
    symbols = [Elf(path, budget=budget).symbols(".symtab") for path in (program, good)]
    assert symbols[0] is not None and symbols[1] is None
    assert Elf(good).symbols(".symtab") is not None
