"""Split DWARF: lines and inlined functions are those of the same program compiled without splitting."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.symbols.demangle import demangle
from insitu.symbols.elf import Elf
from insitu.symbols.frame import Frame
from insitu.symbols.process_map import Module
from insitu.symbols.split_dwarf import joined
from insitu.symbols.symbolizer import Symbolizer

from .symbols_peer import needs
from .test_symbols_lines import addr2line, offsets_in, places

CPP = """
namespace outer {
static inline __attribute__((always_inline)) long leaf(long x, int n) {
  for (int i = 0; i < n; i++)
    x = x * 6364136223846793005L + 1442695040888963407L;
  return x;
}
struct Box {
  long value;
  inline __attribute__((always_inline)) long middle(int n) const {
    return leaf(value, n) ^ leaf(value + 1, n);
  }
};
__attribute__((noinline)) long top(long size, int n) { return Box{size}.middle(n); }
}
static __attribute__((noinline)) int total(const int *v, int n) {
  int t = 0;
  for (int i = 0; i < n; i++) t += v[i] * 3 + 1;
  return t;
}
int main(int argc, char **argv) {
  int v[100] = {argc};
  long r = 0;
  for (int i = 0; i < 200 * argc; i++) r += outer::top(argc, 100000) + total(v, 100);
  return r == 42 && argv;
}
"""

RUST = """
#[inline(always)]
fn leaf(x: u64, n: u64) -> u64 {
    let mut s = x;
    for i in 0..n { s = s.wrapping_mul(31).wrapping_add(i ^ (s >> 3)); }
    s
}
mod inner {
    #[inline(never)]
    pub fn top(n: u64) -> u64 { super::leaf(n, 1000) ^ super::leaf(n + 1, 10) }
}
fn main() { println!("{}", (0..1000).fold(0, |r, i| r ^ inner::top(i))); }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def code(path: Path) -> bytes:
    return Elf(path).section_bytes(".text")


def frames(path: Path, offsets: np.ndarray) -> list[tuple[Frame, ...]]:
    return Symbolizer().user(Module(str(path)), offsets)


def addresses(path: Path, offsets: np.ndarray) -> list[int]:
    found: list[int] = Elf(path).vaddrs_of(offsets).tolist()
    return found


def compiled(directory: Path, source: str, *options: str) -> Path:
    (directory / "prog.cpp").write_text(source)
    subprocess.run(["g++", "-g", "-O2", *options, "-o", "prog", "prog.cpp"], check=True, cwd=directory)
    return directory / "prog"


def whole_and_split(directory: Path, *options: str) -> tuple[Path, Path]:
    """The same code with its DWARF inside, and split off; in one directory, so that their paths agree."""
    compiled(directory, CPP, *options).rename(directory / "whole")
    split = compiled(directory, CPP, "-gsplit-dwarf", *options)
    assert code(directory / "whole") == code(split)
    return directory / "whole", split


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("function", ["outer::top", "main", "total"])
def test_lines_and_inlines_are_those_that_addr2line_finds_in_the_whole_program(
    tmp_path: Path, version: str, function: str
) -> None:
    whole, split = whole_and_split(tmp_path, version)
    offsets = offsets_in(split, function)
    ours = places(frames(split, offsets))
    assert ours == addr2line(whole, addresses(whole, offsets))
    assert any(len(chain) > 1 for chain in ours) or function != "outer::top"


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_names_are_those_of_the_whole_program(tmp_path: Path, version: str) -> None:
    whole, split = whole_and_split(tmp_path, version)
    offsets = offsets_in(split, "outer::top")
    ours = [[frame.function for frame in chain] for chain in frames(split, offsets)]
    assert ours == [[frame.function for frame in chain] for chain in frames(whole, offsets)]


@needs("llvm-dwp")
@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_units_are_found_in_the_package_beside_the_program(tmp_path: Path, version: str) -> None:
    whole, split = whole_and_split(tmp_path, version)
    subprocess.run(["llvm-dwp", "-e", str(split), "-o", f"{split}.dwp"], check=True)
    for path in tmp_path.glob("*.dwo"):
        path.unlink()
    offsets = offsets_in(split, "outer::top")
    assert places(frames(split, offsets)) == addr2line(whole, addresses(whole, offsets))


@needs("rustc")
@pytest.mark.parametrize("how", ["packed", "unpacked"])
def test_rust_programs_have_their_lines_and_inlined_functions(tmp_path: Path, how: str) -> None:
    (tmp_path / "prog.rs").write_text(RUST)
    made = {}
    for split in ("off", how):
        options = ["-O", "-g", "-C", f"split-debuginfo={split}", "--remap-path-prefix", f"{tmp_path}=/src"]
        subprocess.run(["rustc", *options, "-o", f"prog-{split}", "prog.rs"], check=True, cwd=tmp_path)
        made[split] = tmp_path / f"prog-{split}"
    assert code(made["off"]) == code(made[how])
    assert list(tmp_path.glob("*.dwp" if how == "packed" else "*.dwo"))
    offsets = offsets_in(made[how], "prog::inner::top")
    ours, whole = frames(made[how], offsets), frames(made["off"], offsets)
    assert [[f.function for f in chain] for chain in ours] == [[f.function for f in chain] for chain in whole]
    assert [[f.line for f in chain] for chain in ours] == [
        [line for _, line in chain] for chain in addr2line(made["off"], addresses(made["off"], offsets))
    ]
    assert any("leaf" in frame.function and frame.inlined for chain in ours for frame in chain)


def test_a_split_file_of_another_compilation_is_not_used(tmp_path: Path) -> None:
    _, split = whole_and_split(tmp_path)
    offsets = offsets_in(split, "outer::top")
    kept = tmp_path / "kept"
    shutil.copy(split, kept)
    compiled(tmp_path, CPP.replace("100000", "100001"), "-gsplit-dwarf")
    assert {frame.line for chain in frames(kept, offsets) for frame in chain} == {0}
    assert joined(Elf(kept), [(kept, Path("/"))]).missing == 1


def test_a_split_file_that_is_missing_is_reported_and_used_once_it_is_there(tmp_path: Path) -> None:
    _, split = whole_and_split(tmp_path)
    (dwo,) = tmp_path.glob("*.dwo")
    offsets = offsets_in(split, "outer::top")
    dwo.rename(tmp_path / "elsewhere")
    symbolizer = Symbolizer()
    assert {frame.line for chain in symbolizer.user(Module(str(split)), offsets) for frame in chain} == {0}
    assert symbolizer.notes == [f"{split}: no lines for 1 compilation units: no .dwo files and no prog.dwp"]
    (tmp_path / "elsewhere").rename(dwo)
    assert 0 not in {chain[-1].line for chain in frames(split, offsets)}


def test_readelf_accepts_the_joined_image(tmp_path: Path) -> None:
    _, split = whole_and_split(tmp_path)
    image = joined(Elf(split), [(split, Path("/"))]).image
    assert image is not None
    (tmp_path / "joined").write_bytes(image)
    words = ["readelf", "-W", "--debug-dump=info,abbrev,Ranges", "-S", str(tmp_path / "joined")]
    for path in tmp_path.glob("*.dwo"):
        path.unlink()  # readelf would warn about what it means
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "corrupt" not in done.stderr and "invalid" not in done.stderr
    linkage_names = [line.split()[-1] for line in done.stdout.splitlines() if "DW_AT_linkage_name" in line]
    assert "outer::top" in {demangle(name.encode()) for name in linkage_names}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("split")
    return compiled(directory, CPP, "-gsplit-dwarf")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.booleans(),
)
def test_damaged_split_files_raise_nothing(small: Path, places: list[tuple[int, int]], cut: bool) -> None:
    (dwo,) = small.parent.glob("*.dwo")
    whole = dwo.read_bytes()
    damaged = bytearray(whole)
    for at, byte in places:
        damaged[at % len(damaged)] = byte
    try:
        dwo.write_bytes(bytes(damaged[: places[0][0] % len(damaged)] if cut else damaged))
        joined(Elf(small), [(small, Path("/"))])
    finally:
        dwo.write_bytes(whole)
