"""The ELF reader against readelf, and against files that are not what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.functions import FunctionTable

from .symbols_peer import INLINES_CPP, compiled

PROGRAM_C = "int used = 1; static int twice(int x) { return 2 * x; } int main(void) { return twice(used); }\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("elf"), PROGRAM_C, "-g", "-O0")


def readelf(*words: str) -> str:
    return subprocess.run(["readelf", "-W", *words], capture_output=True, text=True, check=True).stdout


def test_sections_are_those_that_readelf_lists(program: Path) -> None:
    listed = re.findall(
        r"^ +\[ *\d+\] (\S+) +\S+ +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", readelf("-S", str(program)), re.M
    )
    ours = [(s.name, s.address, s.offset, s.size) for s in Elf(program).sections if s.name]
    assert ours == [(name, int(a, 16), int(o, 16), int(s, 16)) for name, a, o, s in listed]


def test_build_id_is_that_of_readelf(program: Path) -> None:
    found = re.search(r"Build ID: ([0-9a-f]+)", readelf("-n", str(program)))
    assert found is not None
    assert Elf(program).build_id == found[1]


def test_symbols_have_the_values_and_sizes_that_readelf_shows(program: Path) -> None:
    table = Elf(program).symbols(".symtab")
    assert table is not None
    ours = {table.name(int(e["name"])).decode(): (int(e["value"]), int(e["size"])) for e in table.entries}
    shown = re.findall(r": ([0-9a-f]+) +(\d+) FUNC .* (twice|main)$", readelf("-s", str(program)), re.M)
    assert len(shown) == 2
    assert all(ours[name] == (int(value, 16), int(size)) for value, size, name in shown)


def test_offsets_and_addresses_follow_the_program_headers(program: Path) -> None:
    elf = Elf(program)
    loads = re.findall(r"LOAD +0x(\S+) 0x(\S+) 0x\S+ 0x(\S+) 0x\S+ (R.E)", readelf("-l", str(program)))
    ((offset, address, size),) = [[int(word, 16) for word in load[:3]] for load in loads]
    places = np.array([offset, offset + size - 1], np.uint64)
    assert elf.vaddrs_of(places).tolist() == [address, address + size - 1]
    assert elf.offsets_of(elf.vaddrs_of(places)).tolist() == places.tolist()
    assert elf.vaddrs_of(np.array([1 << 40], np.uint64)).tolist() == [NO_ADDRESS]


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_sections_read_as_they_were(tmp_path: Path, kind: str) -> None:
    program = compiled(tmp_path, INLINES_CPP, "-g", "-c")
    packed = tmp_path / "packed"
    if subprocess.run(["objcopy", f"--compress-debug-sections={kind}", program, packed], check=False).returncode:
        pytest.skip(f"objcopy cannot compress with {kind}")
    section = Elf(packed).section(".debug_str")
    assert section is not None and section.compressed
    assert Elf(packed).section_bytes(".debug_str") == Elf(program).section_bytes(".debug_str")


def test_what_is_not_an_elf_file_is_refused_in_one_line(program: Path, tmp_path: Path) -> None:
    raw = program.read_bytes()
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    refused: list[tuple[Path | bytes, str]] = [
        (tmp_path / "empty", "not an ELF file"),
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path, "not a regular file"),
        (raw[:40], "cut short"),
        (raw[:4] + b"\3" + raw[5:], "unknown ELF class 3"),
        (raw[:5] + b"\2" + raw[6:], "big-endian"),
    ]
    for source, reason in refused:
        with pytest.raises(InsituError, match=reason) as caught:
            Elf(source)
        assert "\n" not in str(caught.value)


def test_more_files_than_the_soft_limit_allows_can_be_open(program: Path) -> None:
    code = (
        "import resource, sys; from insitu.symbols.elf import Elf;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]));"
        "print(len([Elf(sys.argv[1]) for _ in range(100)]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(program)], capture_output=True, text=True)
    assert done.stdout == "100\n", done.stderr


def read_everything(image: bytes) -> None:
    """All that the reader offers. Raises nothing but InsituError, whatever is in ``image``."""
    try:
        elf = Elf(image)
    except InsituError:
        return
    for section in elf.sections:
        elf.section_bytes(section)
    assert len(elf.build_id) % 2 == 0
    assert elf.debug_link is None or elf.debug_link.name
    table = FunctionTable(elf, elf, lambda name: name.decode(errors="replace"))
    places = elf.vaddrs_of(np.arange(0, len(image), 97, dtype=np.uint64))
    for function in np.unique(table.find(places)).tolist():
        if function >= 0:
            assert isinstance(table.name(function), str)  # "" where the name begins with a flipped NUL


@pytest.fixture(scope="module")
def image(program: Path) -> bytes:
    return program.read_bytes()


def test_a_file_cut_at_any_boundary_still_reads(image: bytes) -> None:
    elf = Elf(image)
    edges = {section.offset + extra for section in elf.sections for extra in (0, 1, section.size, section.size - 1)}
    for edge in sorted(edges):
        read_everything(image[: max(edge, 0)])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_never_raise_anything_else(image: bytes, data: st.DataObject) -> None:
    damaged = bytearray(image)
    headers = st.one_of(st.integers(0, 900), st.integers(len(image) - 2600, len(image) - 1))
    for at in data.draw(st.lists(st.one_of(headers, st.integers(0, len(image) - 1)), min_size=1, max_size=12)):
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    read_everything(bytes(damaged))
