"""With a command, probes of the kernel's functions see its process only; with -a all processes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.lab.conftest import Guest

_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}  # QEMU 7.2 emulates AVX2 wrongly
# Reads 4321 bytes 3 times, and 5 times in a child process.
_READS = """
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
static char buffer[4321];
int main(void)
{
    int zeros = open("/dev/zero", O_RDONLY), child = fork() == 0;
    for (int i = 0; i < (child ? 5 : 3); i++)
        read(zeros, buffer, sizeof buffer);
    if (!child)
        wait(NULL);
    return 0;
}
"""
_SCRIPT = """
kprobe:vfs_read /arg2 == 4321/ { @kprobe = count(); }
kprobe:vfs_rea* /arg2 == 4321/ { @kprobes = count(); }
kretprobe:vfs_read /retval == 4321/ { @kretprobe = count(); }
fentry:vfs_read /args.count == 4321/ { @fentry = count(); }
fexit:vfs_read /args.count == 4321/ { @fexit = count(); }
rawtracepoint:sys_enter /arg1 == 0 && ((struct pt_regs *)arg0)->dx == 4321/ { @raw = count(); }
"""


def test_probes_of_kernel_functions_see_the_command_alone(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "reads.c").write_text(_READS)
    subprocess.run(["gcc", "-o", tmp_path / "reads", tmp_path / "reads.c"], check=True)
    (tmp_path / "script.bt").write_text(_SCRIPT)
    for words, expected in (([], 3), (["-a"], 8), ([], 3)):
        trace = [sys.executable, "-m", "insitu", "trace", "-q", *words, str(tmp_path / "script.bt")]
        done = guest.run([*trace, "--", tmp_path / "reads"], env=_ENVIRONMENT)
        assert done.status == 0, done.stderr.decode()
        names = ("fentry", "fexit", "kprobe", "kprobes", "kretprobe", "raw")
        found = dict(line.split(": ") for line in done.stdout.decode().splitlines() if line)
        assert found == {f"@{name}": str(expected) for name in names}
