"""What a function calls directly, by its machine code: compiled here as a kernel's is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.symbols.kernel_text import KernelText
from insitu.views.calls.text import NotTraced

_SOURCE = """
void __fentry__(void) {}
__attribute__((noinline)) void traced(void) { asm volatile(""); }
__attribute__((noinline, no_instrument_function)) void hidden(void) { asm volatile(""); }
__attribute__((noinline, no_instrument_function)) int last(int n) { asm volatile("" : "+r"(n)); return n; }
__attribute__((noinline)) int caller(int n, void (*pointer)(void))
{
    traced(); hidden(); pointer(); hidden();
    return last(n + 1);
}
__attribute__((noinline)) void leaf(void) { asm volatile("nop"); }
void _start(void) { caller(1, leaf); }
"""


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a list of calls of __fentry__, as vmlinux has it."""
    if os.uname().machine != "x86_64" or not shutil.which("gcc"):
        pytest.skip("needs gcc for x86-64")
    built = tmp_path_factory.mktemp("text") / "vmlinux"
    options = ["-O2", "-pg", "-mfentry", "-mrecord-mcount", "-fno-pic", "-static", "-no-pie", "-nostdlib"]
    command = ["gcc", *options, "-x", "c", "-o", built, "-"]
    subprocess.run(command, input=_SOURCE.encode(), check=True)
    return built


def test_direct_calls_are_told_apart_by_whether_they_can_be_traced(vmlinux: Path) -> None:
    kernel = KernelText.of_file(str(vmlinux))
    assert kernel.calls("caller") == (["traced"], ["hidden", "last"], True)
    assert kernel.calls("leaf") == ([], [], False)
    assert kernel.calls("nothing") is None


def test_without_a_list_all_count_as_traceable(vmlinux: Path, tmp_path: Path) -> None:
    without = tmp_path / "vmlinux"
    subprocess.run(["objcopy", "--remove-section", "__mcount_loc", vmlinux, without], check=True)
    assert KernelText.of_file(str(without)).calls("caller") == (["traced", "hidden", "last"], [], True)
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, vmlinux], check=True)
    with pytest.raises(InsituError, match="no symbols"):
        KernelText.of_file(str(stripped))


def test_what_is_left_is_named() -> None:
    assert NotTraced([], [], False).text == "[itself]"
    assert NotTraced(["a"], ["copy_page", "b"], False).text == "[itself; untraceable: copy_page, b; not traced: a]"
    assert NotTraced([*"abcdefghi"], [], False).text == "[itself; not traced: a, b, c, d, e, f, g, h, ...]"
    assert NotTraced([], [], True).text == "[itself; calls through pointers]"
