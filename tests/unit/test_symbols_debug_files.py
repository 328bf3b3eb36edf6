"""Separate debug files: found where gdb finds them, believed only when they fit."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

from .symbols_peer import compiled

PROGRAM_C = """
static __attribute__((noinline)) int hidden(int x) { return x * 3; }
int main(int argc, char **argv) { return hidden(argc); }
"""


def run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True)


@pytest.fixture
def split(tmp_path: Path) -> tuple[Path, Path]:
    """A stripped program below a root directory of its own, and its debug file, which lies nowhere yet."""
    program = compiled(tmp_path, PROGRAM_C, "-g", "-Wl,--build-id")
    debug = tmp_path / "prog.debug"
    run("objcopy", "--only-keep-debug", program, debug)
    run("strip", program)
    (tmp_path / "root" / "bin").mkdir(parents=True)
    return program.rename(tmp_path / "root" / "bin" / "prog"), debug


def found_for(program: Path) -> Path | None:
    found = find_debug_file(Elf(program), Path("/bin/prog"), program.parent.parent)
    return found and found.root / found.path.relative_to("/")


def test_a_debug_file_is_found_by_build_id(split: tuple[Path, Path]) -> None:
    program, debug = split
    build_id = Elf(program).build_id
    home = program.parent.parent / "usr/lib/debug/.build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    home.parent.mkdir(parents=True)
    assert found_for(program) is None
    debug.rename(home)
    assert found_for(program) == home


@pytest.mark.parametrize("place", ["bin", "bin/.debug", "usr/lib/debug/bin"])
def test_a_debug_file_is_found_by_its_link(split: tuple[Path, Path], place: str) -> None:
    program, debug = split
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    home = program.parent.parent / place / "prog.debug"
    home.parent.mkdir(parents=True, exist_ok=True)
    debug.rename(home)
    assert found_for(program) == home


def test_a_linked_file_with_another_build_id_is_not_believed(split: tuple[Path, Path], tmp_path: Path) -> None:
    program, debug = split
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    other = compiled(tmp_path, PROGRAM_C.replace("3", "4"), "-g", "-Wl,--build-id", name="other")
    other.rename(program.parent / "prog.debug")
    assert found_for(program) is None


def test_without_build_ids_the_checksum_of_the_link_decides(tmp_path: Path) -> None:
    program = compiled(tmp_path, PROGRAM_C, "-g", "-Wl,--build-id=none")
    debug = tmp_path / "prog.debug"
    run("objcopy", "--only-keep-debug", program, debug)
    run("strip", program)
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    found = find_debug_file(Elf(program), program)
    assert found is not None and found.path == debug
    debug.write_bytes(debug.read_bytes() + b"\0")
    assert find_debug_file(Elf(program), program) is None


def test_a_link_that_leads_out_of_its_directory_is_not_followed(split: tuple[Path, Path]) -> None:
    program, debug = split
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    raw = program.read_bytes()
    assert raw.count(b"prog.debug\0") == 1
    program.write_bytes(raw.replace(b"prog.debug\0", b"../p.debug\0"))
    debug.rename(program.parent.parent / "p.debug")
    assert found_for(program) is None


def test_a_debug_file_comes_from_the_local_debuginfod_cache(
    split: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, debug = split
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    home = tmp_path / "cache" / Elf(program).build_id / "debuginfo"
    home.parent.mkdir(parents=True)
    debug.rename(home)
    assert found_for(program) == home


def test_symbols_embedded_in_the_file_are_read_beside_its_dynamic_ones(tmp_path: Path) -> None:
    program = compiled(tmp_path, PROGRAM_C, "-rdynamic")
    whole = Elf(program).symbols(".symtab")
    assert whole is not None
    at = {whole.name(int(entry["name"])): int(entry["value"]) for entry in whole.entries}
    small = tmp_path / "small"
    run("objcopy", "-S", "--keep-symbol=hidden", program, small)
    run("xz", small)
    run("strip", program)
    run("objcopy", f"--add-section=.gnu_debugdata={small}.xz", program)
    offsets = Elf(program).offsets_of(np.array([at[b"hidden"], at[b"main"]], np.uint64))
    chains = Symbolizer().user(Module(str(program)), offsets)
    assert [frame.function for (frame,) in chains] == ["hidden", "main"]
