"""Lines and inlined functions against addr2line, and the cache that keeps them."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.symbols import line_table
from insitu.symbols.demangle import demangle
from insitu.symbols.elf import Elf
from insitu.symbols.frame import Frame
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

from .symbols_peer import INLINES_CPP, compiled


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "insitu" / "symcache"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("lines"), INLINES_CPP, "-g", "-O2")


def offsets_in(path: Path, function: str) -> np.ndarray:
    elf = Elf(path)
    table = elf.symbols(".symtab")
    assert table is not None
    entry = next(e for e in table.entries if demangle(table.name(int(e["name"]))) == function)
    return elf.offsets_of(np.arange(int(entry["value"]), int(entry["value"] + entry["size"]), dtype=np.uint64))


Place = tuple[str, int]


def addr2line(path: Path, vaddrs: list[int]) -> list[list[Place]]:
    """File and line of each address and of the calls that were inlined there, innermost first."""
    words = ["addr2line", "-afie", str(path), *map(hex, vaddrs)]
    blocks: list[list[Place]] = []
    for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("0x"):
            blocks.append([])
        elif ":" in (place := line.split(" (disc")[0]):
            file, _, number = place.rpartition(":")
            blocks[-1].append((file, int(number) if number.isdigit() else 0))
    return blocks


def places(chains: list[tuple[Frame, ...]]) -> list[list[Place]]:
    return [[(os.path.normpath(frame.file), frame.line) for frame in chain] for chain in chains]


def written_in(line: int) -> str:
    """The function that a line of INLINES_CPP is in, by the text above it (addr2line's own names can be wrong)."""
    above = "\n".join(INLINES_CPP.splitlines()[:line])
    return re.findall(r"\b(leaf|middle|top|spin|total|main)\(", re.sub(r"(return|\^|=|\+) \w+.*", "", above))[-1]


def test_inlined_frames_and_lines_are_those_of_addr2line(program: Path) -> None:
    offsets = offsets_in(program, "outer::top")
    chains = Symbolizer().user(Module(str(program)), offsets)
    assert places(chains) == addr2line(program, Elf(program).vaddrs_of(offsets).tolist())
    ours = [frame for chain in chains for frame in chain if frame.file.endswith("prog.cpp")]
    assert [frame.function.removeprefix("outer::") for frame in ours] == [written_in(frame.line) for frame in ours]
    assert ["leaf", "middle", "outer::top"] in [[frame.function for frame in chain] for chain in chains]
    assert all([f.inlined for f in chain] == [True] * (len(chain) - 1) + [False] for chain in chains)


def test_without_inlines_each_place_is_one_frame_with_its_line(program: Path) -> None:
    frames = Symbolizer(inlines=False).user(Module(str(program)), offsets_in(program, "outer::top"))
    assert {tuple(f.function for f in chain) for chain in frames} == {("outer::top",)}
    assert all(chain[0].file.endswith("prog.cpp") and chain[0].line for chain in frames)


def test_lines_come_from_a_separate_debug_file(program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "prog"
    for words in (
        ["objcopy", "--only-keep-debug", program, tmp_path / "prog.debug"],
        ["strip", "-o", stripped, program],
        ["objcopy", f"--add-gnu-debuglink={tmp_path / 'prog.debug'}", stripped],
    ):
        subprocess.run(words, check=True, cwd=tmp_path)
    offsets = offsets_in(program, "outer::top")
    chains = Symbolizer().user(Module(str(stripped)), offsets)
    assert places(chains) == addr2line(program, Elf(program).vaddrs_of(offsets).tolist())
    assert {chain[-1].function for chain in chains} == {"outer::top"}


def test_a_program_linked_to_a_fixed_address_has_its_lines(tmp_path: Path) -> None:
    program = compiled(tmp_path, INLINES_CPP, "-g", "-O2", "-no-pie")
    offsets = offsets_in(program, "outer::top")
    chains = Symbolizer().user(Module(str(program)), offsets)
    assert places(chains) == addr2line(program, Elf(program).vaddrs_of(offsets).tolist())


def test_lines_are_kept_and_read_again(program: Path, cache: Path) -> None:
    offsets = offsets_in(program, "main")
    first = Symbolizer().user(Module(str(program)), offsets)
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert Symbolizer().user(Module(str(program)), offsets) == first
    assert kept.stat().st_mtime_ns == before


def test_a_program_with_the_build_id_of_another_does_not_get_its_lines(tmp_path: Path, cache: Path) -> None:
    shown = []
    for name in ("victim", "attacker"):
        source = f'#line 1 "{name}.c"\nint main(void) {{ return 0; }}\n'
        program = compiled(tmp_path, source, "-g", "-Wl,--build-id=0xabcdef", name=name)
        chains = Symbolizer().user(Module(str(program)), offsets_in(program, "main"))
        shown.append({Path(frame.file).name for chain in chains for frame in chain})
    assert shown == [{"victim.c"}, {"attacker.c"}]


def test_a_changed_program_has_its_new_lines(tmp_path: Path, cache: Path) -> None:
    program = compiled(tmp_path, '#line 1 "one.c"\nint main(void) { return 0; }\n', "-g", name="prog")
    before, times = program.read_bytes(), program.stat()
    Symbolizer().user(Module(str(program)), offsets_in(program, "main"))
    other = compiled(tmp_path, '#line 1 "two.c"\nint main(void) { return 0; }\n', "-g", name="gorp").read_bytes()
    assert len(other) == len(before)
    program.write_bytes(other)
    os.utime(program, ns=(times.st_atime_ns, times.st_mtime_ns))
    chains = Symbolizer().user(Module(str(program)), offsets_in(program, "main"))
    assert {Path(frame.file).name for chain in chains for frame in chain} == {"two.c"}


@pytest.mark.parametrize("damage", [b"", b"no symcache", b"SYMC\x09\0\0\0" + b"\xff" * 200])
def test_a_damaged_cache_is_made_again(program: Path, cache: Path, damage: bytes) -> None:
    offsets = offsets_in(program, "main")
    first = Symbolizer().user(Module(str(program)), offsets)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert Symbolizer().user(Module(str(program)), offsets) == first


def test_a_cache_that_cannot_be_written_is_done_without(program: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the directory should be")
    frames = Symbolizer().user(Module(str(program)), offsets_in(program, "outer::top"))
    assert any(len(chain) == 3 for chain in frames)


def test_the_cache_gives_up_what_was_not_used_for_longest(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_table, "_MAX_KEPT_BYTES", 50_000)
    cache.mkdir(0o700, parents=True)
    for age in range(1, 10):
        (cache / f"{age:040x}.9").write_bytes(bytes(10_000))
        os.utime(cache / f"{age:040x}.9", (1_000_000 - age, 1_000_000 - age))
    program = compiled(tmp_path, INLINES_CPP, "-g", "-O2", name="fresh")
    Symbolizer().user(Module(str(program)), offsets_in(program, "main"))
    left = {path.name: path.stat().st_size for path in cache.iterdir()}
    assert sum(left.values()) <= 50_000
    assert any(name.startswith(Elf(program).identity) for name in left)
    assert f"{1:040x}.9" in left and f"{9:040x}.9" not in left


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_programs_give_frames_for_every_place(
    program: Path, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    whole = program.read_bytes()
    damaged = bytearray(
        whole[: draw.draw(st.sampled_from([len(whole), len(whole) // 2]) | st.integers(64, len(whole)))]
    )
    for at in draw.draw(st.lists(st.integers(64, len(damaged)), max_size=30)):
        damaged[at % len(damaged)] ^= 1 << draw.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    places = np.arange(0, 0x4000, 17, dtype=np.uint64)
    chains = Symbolizer().user(Module(str(path)), places)
    assert len(chains) == len(places) and all(chains)


def test_the_code_of_a_source_file_is_where_addr2line_says(program: Path) -> None:
    elf = Elf(program)
    table = line_table.LineTable.of(elf)
    assert table is not None
    (source,) = {at.file for row in table.rows(lambda file: file.endswith(".cpp")) for at in row.chain[-1:]}
    rows = table.rows(lambda file: file == source)
    assert [row.address for row in rows] == sorted({row.address for row in rows})
    shown = addr2line(program, [row.address for row in rows])
    for row, chain in zip(rows, shown, strict=True):
        assert [(at.file, at.line) for at in row.chain] == [(os.path.normpath(file), line) for file, line in chain]
    assert len(rows) > 10
    assert not table.rows(lambda file: False)
