"""32-bit x86 programs and libraries: sections, names, lines and call frame rows against readelf, perf, addr2line."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from insitu.symbols.eh_frame import CallFrames
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.registers import I386
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.vdso import read_vdso

from .symbols_peer import needs, perf_names
from .test_unwind_call_frames import rows_of_readelf, said

# Without a C library, which 32-bit programs would need a package of their own for.
SOURCE = """
extern int puts(const char *);
static inline __attribute__((always_inline)) int twice(int x) {
  return 2 * x + (x >> 3);
}
__attribute__((noinline)) int leaf(int n) {
  volatile int sum = 0;
  for (int i = 0; i < n; i++) sum += twice(i);
  return sum;
}
__attribute__((noinline)) int branches(int a, int b, int c) {
  char wide[a + 16] __attribute__((aligned(32)));
  for (int i = 0; i < a; i++) { wide[i] = leaf(b + i); if (wide[i] == 77) return c; }
  CALL
  return wide[b] + leaf(c) * leaf(a);
}
void _start(void) { branches(3, 4, 5); for (;;) __asm__ volatile("int $0x80" ::"a"(29)); }
"""

_NAMES = dict(enumerate(["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "ra"]))


def built(path: Path, *options: str, call: str = "") -> Path:
    source = path.with_suffix(".c")
    source.write_text(SOURCE.replace("CALL", call))
    words = ["gcc", "-m32", "-nostdlib", "-g", "-O2", "-Wl,--build-id", *options, "-o", str(path), str(source)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this gcc makes no 32-bit code: {done.stderr.splitlines()[0]}")
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("32") / "prog", "-static", "-fno-pic", "-no-pie")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("32") / "libprog.so", "-shared", "-fPIC", call='puts("x");')


def readelf(*words: str) -> str:
    return subprocess.run(["readelf", "-W", *words], capture_output=True, text=True, check=True).stdout


def test_sections_symbols_and_build_id_are_those_of_readelf(program: Path) -> None:
    elf = Elf(program)
    listed = re.findall(
        r"^ +\[ *\d+\] (\S+) +\S+ +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", readelf("-S", str(program)), re.M
    )
    ours = [(s.name, s.address, s.offset, s.size) for s in elf.sections if s.name]
    assert ours == [(name, int(a, 16), int(o, 16), int(s, 16)) for name, a, o, s in listed]
    table = elf.symbols(".symtab")
    assert table is not None
    values = {table.name(int(e["name"])).decode(): (int(e["value"]), int(e["size"])) for e in table.entries}
    shown = re.findall(r": ([0-9a-f]+) +(\d+) FUNC .* (\w+)$", readelf("-s", str(program)), re.M)
    assert len(shown) == 3
    assert all(values[name] == (int(value, 16), int(size)) for value, size, name in shown)
    assert f"Build ID: {elf.build_id}\n" in readelf("-n", str(program))


def code_offsets(path: Path) -> np.ndarray:
    text = Elf(path).section(".text")
    assert text is not None
    return np.arange(text.offset, text.offset + text.size, 3, dtype=np.uint64)


@needs("perf")
@pytest.mark.parametrize("which", ["program", "library"])
def test_names_are_those_of_perf(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path: Path = request.getfixturevalue(which)
    offsets = code_offsets(path)
    ours = [chain[-1].function for chain in Symbolizer().user(Module(str(path)), offsets)]
    theirs = perf_names(tmp_path, path, offsets.tolist())
    assert [name if "+0x" not in name else "[unknown]" for name in ours] == theirs
    assert {"leaf", "branches", "_start"} <= set(ours)


def test_lines_and_inlined_functions_are_those_of_addr2line(program: Path) -> None:
    offsets = code_offsets(program)
    # Between functions addr2line goes on with the one before.
    offsets = offsets[[chain[-1].symbolized for chain in Symbolizer().user(Module(str(program)), offsets)]]
    vaddrs = Elf(program).vaddrs_of(offsets).tolist()
    words = ["addr2line", "-ifae", str(program), *map(hex, vaddrs)]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    theirs = []
    for block in re.split(r"^0x.*\n", text, flags=re.M)[1:]:
        lines = block.splitlines()
        places = (place.split(" (disc")[0].rpartition(":") for place in lines[1::2])
        theirs.append([(name, int(line)) for name, (_, _, line) in zip(lines[::2], places, strict=True)])
    ours = [[(f.function, f.line) for f in chain] for chain in Symbolizer().user(Module(str(program)), offsets)]
    assert ours == theirs
    assert any(len(chain) == 2 for chain in ours)


def test_stubs_of_the_plt_are_named_for_what_they_call(library: Path) -> None:
    listing = subprocess.run(["objdump", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"^([0-9a-f]{8}) <puts@plt>:", listing, re.M)
    assert found is not None
    offsets = Elf(library).offsets_of(np.array([int(found[1], 16)], np.uint64))
    assert Symbolizer().user(Module(str(library)), offsets)[0][-1].function == "puts@plt"


@pytest.mark.parametrize("which", ["program", "library"])
def test_every_call_frame_row_is_what_readelf_says(which: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(which)
    expected = rows_of_readelf(path)
    rows = []
    frames = CallFrames(Elf(path), I386.columns)
    numbers = frames.rows(np.array(sorted(expected), np.uint64), lambda row: rows.append(row) or len(rows) - 1)
    for address, number in zip(sorted(expected), numbers.tolist(), strict=True):
        wanted = {name: word for name, word in expected[address].items() if word not in ("u", "s")}
        assert said(rows[number], _NAMES) == wanted, f"{address:#x}"
    assert len(expected) > 10


@pytest.mark.skipif(sys.maxsize < 2**32, reason="this interpreter is a 32-bit program itself")
def test_the_vdso_of_32_bit_processes_is_that_of_one_that_runs(program: Path) -> None:
    try:
        process = subprocess.Popen([str(program)])
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    with process:
        try:
            found = None
            while found is None:  # exec(2) returns to its parent before the vdso is mapped
                assert process.poll() is None
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", maps, re.M)
            with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
                memory.seek(int(found[1], 16))
                image = memory.read(int(found[2], 16) - int(found[1], 16))
        finally:
            process.kill()
    ours = read_vdso(compat=True)
    assert ours is not None and ours.read(0, ours.size) == image
    table = ours.symbols(".dynsym")
    assert table is not None
    (start,) = (int(e["value"]) for e in table.entries if table.name(int(e["name"])) == b"__kernel_vsyscall")
    ((frame,),) = Symbolizer().user(Module("[vdso]", compat=True), np.array([start + 1], np.uint64))
    assert frame.function == "__kernel_vsyscall"
