"""The lines of a 32-bit program's calls equal strace's: times, offsets in two arguments, socketcall()."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.live.syscall_lines import lines, strace_lines, trace
from tests.live.syscall_peer import Threads, compare, compiled_program, our_threads
from tests.live.test_syscalls_network_and_kernel import MASKS

from insitu.record.sources.syscalls import SyscallsSource
from insitu.syscalls.argument import TextOptions

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

OF_A_FILE_SYSTEM = (
    (r"\bf_(bfree|bavail|ffree)=\d+", r"f_\1=N"),
    (r"\b(st_[amc]time(?:_nsec)?)=\d+( /\* \S+ \*/)?", r"\1=T"),
)
SOCKETCALL = re.compile(r"^socketcall\(SYS_(\w+), \[(.*)\]\) = ")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Compiles a program of the folder for 32 bits, once, and returns its path."""
    directory = tmp_path_factory.mktemp("programs")

    @functools.cache
    def compile_program(name: str) -> str:
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed")
        empty = directory / "empty"
        source = "int main(void) { return 0; }"
        done = subprocess.run(["gcc", "-m32", "-o", empty, "-xc", "-"], input=source, text=True, capture_output=True)
        if done.returncode:
            pytest.skip("gcc cannot make 32-bit programs here")
        try:
            subprocess.run([empty], check=True)
        except OSError:
            pytest.skip("the kernel runs no 32-bit programs")
        return compiled_program(directory, name, "-m32")

    return compile_program


def with_socketcall_as_strace_shows_it(command: Sequence[str], text: TextOptions) -> Threads:
    """Returns our lines; ``connect(3, ...)`` for ``socketcall(SYS_CONNECT, [3, ...])``, as docs/syscalls.md says."""

    def meant(line: str) -> str:
        return SOCKETCALL.sub(lambda found: f"{found[1].lower()}({found[2]}) = ", line)

    return [(tid, [meant(line) for line in lines]) for tid, lines in our_threads(command, text)]


@pytest.mark.parametrize("verbose", [False, True])
def test_each_call_of_a_32_bit_program_has_straces_line(
    compiled: Callable[[str], str], tmp_path: Path, verbose: bool
) -> None:
    found = compare(
        [compiled("calls_32_bit")],
        tmp_path / "strace.txt",
        masks=(*MASKS, *OF_A_FILE_SYSTEM),
        threads=1,
        text=TextOptions(verbose=verbose),
        options=("-v",) if verbose else (),
    )
    assert not found, found


@pytest.mark.parametrize("group", ["addresses", "kinds", "stream", "options"])
def test_each_call_of_a_socket_has_straces_line(compiled: Callable[[str], str], tmp_path: Path, group: str) -> None:
    found = compare(
        [compiled("network"), group],
        tmp_path / "strace.txt",
        masks=MASKS,
        threads=1,
        run=with_socketcall_as_strace_shows_it,
    )
    assert not found, found


_X32 = """
#include <unistd.h>
int main(void)
{
    syscall(0x40000000 + 39);
    syscall(0x40000000 + 520, (char *)0, (char *)0, (char *)0);
    syscall(0x40000000 + 3, -1);
    syscall(0x40000000 + 1000);
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
def test_calls_of_x32_have_straces_names_by_the_bpf_engine(tmp_path: Path) -> None:
    """Whether the kernel has them or not."""
    program = tmp_path / "x32"
    subprocess.run(["gcc", "-w", "-o", program, "-xc", "-"], input=_X32, text=True, check=True)
    names = [re.findall(r"^\w+", line) for line in strace_lines([str(program)], tmp_path / "out")]
    events, _ = trace([str(program)], source_class=SyscallsSource)
    assert [re.findall(r"^\w+", line) for line in lines(events)][-5:] == [name for name in names if name][-5:]
