"""A script by us and by bpftrace, in a guest on one load: what functions of the kernel show is the same to the byte.

What the running kernel can show (tracepoints, uprobes, the language itself) is compared in tests/live.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.lab import Guest

# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
# Reads of 2^n bytes are made n + 1 times: all counts differ, so that their order is determined.
_LOAD = """
#include <fcntl.h>
#include <unistd.h>
volatile long watched = 1;
int main(void)
{
    char buffer[1024];
    int zero = open("/dev/zero", O_RDWR);
    for (int i = 0; i <= 9; i++)
        for (int j = 0; j <= i; j++)
            if (read(zero, buffer, 1 << i) < 0)
                return 1;
    for (int i = 0; i < 5; i++) {
        close(open(i < 3 ? "/etc/hostname" : "/etc/passwd", O_RDONLY));
        watched = i;
    }
    return 0;
}
"""
_SCRIPT = """
kprobe:vfs_read /comm == "load"/ {
    @sizes = hist(arg2); @linear = lhist(arg2, 0, 300, 50); @stats = stats(arg2); @average = avg(arg2);
    @sum = sum(arg2); @smallest = min(arg2); @largest = max(arg2); @by_func[func] = count();
    @by_probe[probe] = count();
    @n[comm, arg2] = count(); @large[(arg2 > 100) + 0] = hist(arg2); @stats_by[arg2 % 4] = stats(arg2);
    @linear_by[arg2 % 3] = lhist(arg2, 0, 300, 100); @summed[arg2, arg2 * 2] = sum(arg2);
}
kprobe:vfs_read /comm == "load" && arg2 == 4/ {
    @stack[kstack] = count(); @three[kstack(3)] = count(); @named[kstack(bpftrace, 2), comm] = count();
    printf("%s\\n", kstack(perf, 4)); printf("%s %d\\n", ksym(reg("ip")), kaddr("vfs_read") != 0); print(kstack(1));
}
kretprobe:vfs_read /comm == "load"/ { @returned = hist(retval); @returns[retval] = count(); }
kprobe:vfs_open /comm == "load"/ {
    $name = str(((struct path *)arg0)->dentry->d_name.name);
    printf("%s\\n", $name); @opened[$name] = count();
}
kretprobe:vfs_open /comm == "load"/ { @failed[(retval != 0) + 0] = count(); }
tracepoint:syscalls:sys_enter_openat /comm == "load"/ {
    printf("%s %d %r\\n", str(args->filename), args->flags, buf(args->filename, 5));
}
tracepoint:syscalls:sys_exit_read /comm == "load"/ { @read = lhist(args->ret, 0, 1000, 200); }
tracepoint:sched:sched_process_exec /comm == "load"/ { printf("%s\\n", str(args->filename)); }
END {
    print(@n, 3); print(@n, 4, 10); print(@sizes); print(@sum); print(@summed, 2);
    clear(@summed); zero(@failed); delete(@opened["passwd"]);
}
"""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that does what is determined, and nothing else: it is linked to no library."""
    directory = tmp_path_factory.mktemp("load")
    (directory / "load.c").write_text(_LOAD)
    subprocess.run(["gcc", "-O1", "-static", "-no-pie", "-o", directory / "load", directory / "load.c"], check=True)
    return directory / "load"


def _output(guest: Guest, tracer: list[str], script: str, load: str | Path) -> str:
    done = guest.run([*tracer, "-c", str(load), "-e", script], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.skipif(shutil.which("bpftrace") is None, reason="needs bpftrace, the peer")
def test_functions_of_the_kernel_show_what_bpftrace_shows(guest: Guest, load: Path) -> None:
    # bpftrace 0.17 has a buffer for each CPU, and prints what is in one of them after the other.
    on_one_cpu = f"{shutil.which('taskset')} -c 0 {load}"  # the whole path: bpftrace refuses what PATH has twice
    ours = _output(guest, [sys.executable, "-m", "insitu", "trace"], _SCRIPT, on_one_cpu)
    assert ours == _output(guest, ["bpftrace"], _SCRIPT, on_one_cpu)
    assert "@returns[512]: 10\n" in ours


def test_each_write_to_a_watched_variable_is_seen(guest: Guest, load: Path) -> None:
    symbols = subprocess.run(["nm", load], capture_output=True, text=True, check=True).stdout
    place = re.search(r"(\w+) D watched", symbols)
    assert place
    script = f"watchpoint:0x{place[1]}:8:w {{ @[comm] = count(); }}"
    output = _output(guest, [sys.executable, "-m", "insitu", "trace"], script, load)
    assert output.split() == ["Attaching", "1", "probe...", "@[load]:", "5"]


def test_functions_are_probed_by_type_by_module_and_by_wildcard(guest: Guest, load: Path) -> None:
    script = """
        fentry:vfs_open /comm == "load"/ { @opened[str(args.path->dentry->d_name.name)] = count(); }
        fexit:overlay:ovl_open /comm == "load"/ { @answered[retval] = count(); }
        fentry:overlay:ovl_open /comm == "load"/ { @fentry = count(); }
        kprobe:overlay:ovl_open /comm == "load"/ { @module = count(); }
        kprobe:vfs_rea* /comm == "load"/ { @wildcard[func] = count(); }
        kretprobe:vfs_rea* /comm == "load"/ { @returned[func, retval] = count(); }
    """
    lines = _output(guest, [sys.executable, "-m", "insitu", "trace", "-q"], script, load).splitlines()
    expected = {"@opened[zero]: 1", "@answered[0]: 5", "@fentry: 5", "@module: 5", "@wildcard[vfs_read]: 55"}
    expected |= {f"@returned[vfs_read, {1 << n}]: {n + 1}" for n in range(10)}
    assert expected <= set(lines), lines
