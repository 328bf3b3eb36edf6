"""Functions that an earlier run has found in a binary are where nm(1) says, also after the binary was changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.probe import cache
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AttachSpec, Context
from insitu.probe.providers.support.binary import place_of
from insitu.probe.providers.support.known_places import KnownPlaces

_FIND = """
import sys
from insitu.probe import cache
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AttachSpec, Context
from insitu.probe.providers.support.known_places import KnownPlaces
context = Context(known_places=KnownPlaces(cache))
(point,) = PROVIDERS["uprobe"].expand(AttachSpec("uprobe", (sys.argv[1], "wanted")), context)
print(point.detail.offset, "numpy" in sys.modules)
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _compiled(program: Path, before: str) -> int:
    """Compile a program in place; the address of ``wanted``, which is its offset: the first segment begins at 0."""
    source = f"{before} int wanted(int n) {{ return n + 1; }} int main(void) {{ return wanted(1); }}"
    flags = ["-O0", "-pie", "-fPIE", "-x", "c", "-"]
    subprocess.run(["gcc", "-o", program, *flags], input=source, text=True, check=True)
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in listed.splitlines() if line.endswith(" wanted")]
    return int(line.split()[0], 16)


def _offset(program: Path, name: str = "wanted") -> int:
    """Where a start that keeps what it finds finds it."""
    context = Context(known_places=KnownPlaces(cache))
    (point,) = PROVIDERS["uprobe"].expand(AttachSpec("uprobe", (str(program), name)), context)
    assert context.known_places is not None
    context.known_places.keep()
    context.close()
    return place_of(point).offset


def test_a_later_start_reads_no_symbols_and_finds_the_same(tmp_path: Path) -> None:
    address = _compiled(tmp_path / "program", "")
    assert _offset(tmp_path / "program") == address
    found = subprocess.run([sys.executable, "-c", _FIND, tmp_path / "program"], capture_output=True, text=True)
    assert found.stdout.split() == [str(address), "False"], found.stderr


def test_a_binary_that_was_changed_is_read_again(tmp_path: Path) -> None:
    program, other = tmp_path / "program", tmp_path / "other"
    old = _compiled(program, "int filler(int n) { return n * 3; }")
    new = _compiled(other, "")
    assert old != new
    assert _offset(program) == old
    times = program.stat().st_atime_ns, program.stat().st_mtime_ns
    content = other.read_bytes().ljust(program.stat().st_size, b"\0")
    assert len(content) == program.stat().st_size
    with program.open("r+b") as file:  # the same file, size and time of change
        file.write(content)
    os.utime(program, ns=times)
    assert _offset(program) == new


def test_only_exact_names_are_kept(tmp_path: Path) -> None:
    address = _compiled(tmp_path / "program", "")
    assert _offset(tmp_path / "program", "want*") == address
    places = KnownPlaces(cache)
    assert places.offset(str(tmp_path / "program"), "want*") is None
    assert places.offset(str(tmp_path / "program"), "wanted") is None
    places.close()


def test_what_is_no_binary_is_not_known(tmp_path: Path) -> None:
    places = KnownPlaces(cache)
    os.mkfifo(tmp_path / "pipe")
    assert places.offset(str(tmp_path / "pipe"), "wanted") is None  # opening it would wait for a writer
    assert places.offset(str(tmp_path / "none"), "wanted") is None
