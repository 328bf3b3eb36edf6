"""Events of older kernels: recorded as bytes in a guest, decoded here against what the program did."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars
import pytest
from tests.lab.kernels import LONG_TESTS
from tests.live.capturing import decoded, decoded_maps

from insitu.lab import Guest
from insitu.lab import guest as boot
from insitu.probe.runtime.event_columns import CopiedStackColumn, StackColumn

# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_LOAD = """
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
KEEP void say(long n, const char *text, const char *bytes, long count)
{
    __asm__ volatile("" ::"r"(n), "r"(text), "r"(bytes), "r"(count) : "memory");
    syscall(SYS_getppid);
    __asm__ volatile("");
}
KEEP void outer(long n)
{
    char text[64];
    for (long i = 0; i < n; i++) { text[i] = 'a' + i % 26; }
    text[n] = 0;
    say(n, text, text, n / 2);
    __asm__ volatile("");
}
int main(void)
{
    char byte = 0;
    int zero = open("/dev/zero", O_RDWR);
    for (long n = 0; n < 40; n++) { outer(n); }
    return write(zero, &byte, 1) != 1;
}
"""
_SCRIPT = """
uprobe:LOAD:say {
    $t = str(arg1); @last[tid] = ustack; @by[ustack] = count();
    emit("said", (n=arg0, text=str(arg1), kept=$t, bytes=buf(arg2, arg3), u=ustack, held=@last[tid],
        copy=ustack(dwarf)));
}
tracepoint:raw_syscalls:sys_enter /pid == cpid && args.id == 110/ {
    emit("entered", (k=kstack, copy=ustack(dwarf, 512)));
}
kprobe:vfs_write /pid == cpid/ {
    emit("written", (path=path(((struct file *)arg0)->f_path), bytes=arg2, k=kstack, copy=ustack(dwarf, 16384)));
}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that guests write to, with a program of known addresses."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "load.c").write_text(_LOAD)
    flags = ["-O2", "-static", "-no-pie", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *flags, "-o", directory / "load", directory / "load.c"], check=True)
    return directory


@pytest.fixture(scope="module", params=LONG_TESTS)
def guest(request: pytest.FixtureRequest, shared: Path) -> Iterator[Guest]:
    with boot(kernel=request.param, memory="1G", rw=(shared,)) as guest:
        yield guest


def _ranges(program: Path) -> dict[str, range]:
    """The addresses of each function."""
    listed = subprocess.run(["nm", "-S", program], capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in listed.splitlines()]
    return {each[3]: range(int(each[0], 16), int(each[0], 16) + int(each[1], 16)) for each in found if len(each) == 4}


@pytest.mark.timeout(600)
def test_events_of_any_size_leave_an_older_kernel_as_they_are(guest: Guest, shared: Path) -> None:
    load, directory = shared / "load", shared / guest.name
    directory.mkdir()
    capturing = Path(__file__).parents[1] / "live" / "capturing.py"
    words = [sys.executable, str(capturing), str(directory), _SCRIPT.replace("LOAD", str(load)), str(load)]
    done = guest.run(words, env=_ENVIRONMENT, timeout=240)
    assert done.status == 0, done.stderr.decode()
    tables, functions = decoded(directory).tables, _ranges(load)

    said = tables["said"]
    expected = ["".join(chr(97 + i % 26) for i in range(n)) for n in range(40)]
    frame = polars.DataFrame({name: said[name] for name in ("n", "text", "kept", "bytes")})
    assert frame.rows() == [(n, text, text, text[: n // 2].encode()) for n, text in enumerate(expected)]

    user, held, copy = said["u"], said["held"], said["copy"]
    assert isinstance(user, StackColumn) and isinstance(held, StackColumn) and isinstance(copy, CopiedStackColumn)
    assert held.address.tolist() == user.address.tolist()
    assert len(decoded_maps(directory)["@by"]["key"]) == 1
    assert {first in functions["say"] for first in user.address[user.offset[:-1]].tolist()} == {True}
    assert set(copy.registers[:, 8].tolist()) == {functions["say"].start}  # PERF_REG_X86_IP
    returns = copy.stack.view("<u8")[copy.start >> 3]  # at a function's first instruction, its return address
    assert {int(address) in functions["outer"] for address in returns} == {True}

    entered = tables["entered"]
    copy, kernel = entered["copy"], entered["k"]
    assert isinstance(copy, CopiedStackColumn) and isinstance(kernel, StackColumn)
    assert len(copy) == 40 and set(copy.size.tolist()) == {512}
    assert {int(ip) in functions["syscall"] for ip in copy.registers[:, 8]} == {True}
    assert (kernel.address >> np.uint64(63)).all() and (kernel.lengths > 1).all()

    written = tables["written"]
    assert polars.Series(written["path"]).to_list() == ["/dev/zero"]
    assert np.asarray(written["bytes"]).tolist() == [1]
    copy = written["copy"]
    assert isinstance(copy, CopiedStackColumn) and 512 < copy.size[0] <= 16384
