"""The kernel's file with debug information: found, refused, and its lines where the kernel runs them."""

import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.symbols import debug_files, kernel_file
from insitu.symbols.elf import Elf
from insitu.symbols.symbolizer import Symbolizer

_SOURCE = """
static inline __attribute__((always_inline)) int twice(int n) { return n * 2; }
int middle(volatile int *at)
{
    *at = twice(*at);
    return *at;
}
int main(int n, char **words) { return middle(&n); }
"""
_SLIDE = 0x3400_0000


@pytest.fixture
def vmlinux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of the kernel, which runs at other addresses than its file has."""
    (tmp_path / "k.c").write_text(_SOURCE)
    options = ("-g", "-O1", "-no-pie", "-Wl,--build-id", "-Wl,--defsym=_text=middle", "-o", "vmlinux", "k.c")
    subprocess.run(["gcc", *options], cwd=tmp_path, check=True)
    notes = tmp_path / "notes"
    notes.write_bytes(b"GNU\0" + bytes.fromhex(Elf(tmp_path / "vmlinux").build_id))
    monkeypatch.setattr(kernel_file, "_NOTES", notes)
    monkeypatch.setattr(kernel_file, "_PLACES", ())
    monkeypatch.setattr(debug_files, "_more_directories", ["relative", str(tmp_path)])
    return tmp_path / "vmlinux"


def _address(vmlinux: Path, name: str) -> int:
    lines = subprocess.run(["nm", vmlinux], capture_output=True, text=True, check=True).stdout.splitlines()
    return next(int(line.split()[0], 16) for line in lines if line.endswith(f" {name}"))


def test_it_is_found_in_a_directory_that_was_named_and_refused_if_it_is_of_another_kernel(vmlinux: Path) -> None:
    assert kernel_file.find_vmlinux() == str(vmlinux)
    (vmlinux.parent / "notes").write_bytes(b"another")
    with pytest.raises(InsituError, match="not of the running kernel"):
        kernel_file.find_vmlinux()
    vmlinux.unlink()
    with pytest.raises(InsituError, match="was not found"):
        kernel_file.find_vmlinux()


def test_lines_are_those_of_binutils_wherever_the_kernel_runs(vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = _address(vmlinux, "middle")
    monkeypatch.setattr(kernel_file, "symbol_address", lambda name: start + _SLIDE)
    symbolizer = Symbolizer()
    depths = set()
    for address in range(start, start + 8):
        command = ["addr2line", "-f", "-i", "-e", vmlinux, f"{address:#x}"]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        frames = symbolizer.kernel_source(address + _SLIDE)
        assert [(each.function, f"{each.file}:{each.line}") for each in frames] == list(
            zip(words[::2], words[1::2], strict=True)
        )
        depths.add(len(frames))
    assert depths == {1, 2}
    assert symbolizer.kernel_source(start) == ()


def test_without_addresses_the_error_says_what_shows_them(vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_file, "symbol_address", lambda name: 0)
    with pytest.raises(InsituError, match="no addresses") as caught:
        kernel_file.slide(Elf(vmlinux))
    assert caught.value.remedy
    assert Symbolizer().kernel_source(_address(vmlinux, "middle")) == ()
