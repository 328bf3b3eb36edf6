"""What a guest's root cannot do to this machine: leave set-id files or device nodes, or fill the disk."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.lab import guest
from insitu.lab.guests import bounded_logs
from insitu.lab.kernels.kernel import Kernel

# Each by another call: fchmodat or fchmod, openat with a mode, mknodat, setxattr.
_TRIES = r"""
cd "$1" || exit 99
cp /bin/true chmod && chmod 6755 chmod && echo "chmod worked"
cp /bin/true group && chmod 2755 group && echo "chmod of the group worked"
python3 -c 'import os; os.open("open", os.O_CREAT | os.O_WRONLY, 0o4755)' && echo "open worked"
python3 -c 'import os; os.mknod("regular", 0o104755)' && echo "mknod of a file worked"
/bin/busybox mknod -m 666 block b 7 0 && echo "mknod of a block device worked"
/bin/busybox mknod -m 666 character c 1 3 && echo "mknod of a character device worked"
python3 -c '
import os
os.setxattr("chmod", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
' && echo "file capabilities worked"
echo of the guest >before && echo "wrote before"
chmod 640 before && mkdir -p sub/dir && echo text >sub/dir/file && echo "made files"
"""


@pytest.mark.parametrize("kernel", ["6.1", "6.1-cloud"])  # over 9p and over virtiofs
def test_nothing_privileged_is_left_in_a_writable_directory(
    fetched: Callable[[str], Kernel], kernel: str, tmp_path: Path
) -> None:
    if kernel.endswith("cloud") and os.geteuid() != 0:
        pytest.skip("virtiofs needs root")
    fetched(kernel)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "before").write_text("of the host")
    (shared / "before").chmod(0o4755)
    with guest(kernel=kernel, rw=(shared,), boot_timeout=600) as running:
        done = running.run(["sh", "-c", _TRIES, "sh", str(shared)])
    assert done.stdout.decode().splitlines() == ["wrote before", "made files"]
    assert (shared / "before").read_text() == "of the guest\n"
    assert stat.S_IMODE((shared / "before").stat().st_mode) == 0o640
    assert (shared / "sub/dir/file").read_text() == "text\n"
    for path in shared.rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), path
        assert "security.capability" not in os.listxattr(path)


def test_a_console_that_is_printed_to_without_end_takes_little_disk_space(
    kernel_6_1: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 1 << 16
    monkeypatch.setitem(bounded_logs.KEPT_BYTES, bounded_logs.CONSOLE, kept)
    # 2 MiB, and a line after it as the kernel's OOM killer prints it.
    script = "head -c 2097152 /dev/zero | tr '\\0' x >/dev/console; echo >/dev/console"
    killed = "Out of memory: Killed process 4321 (eater) total-vm:1kB"
    with guest(kernel="6.1", boot_timeout=600) as running:
        done = running.run(["sh", "-c", f"{script}; echo; echo '{killed}' >/dev/console"])
        console = running.directory / "console"
        assert console.stat().st_size > 2 << 20
        deadline = time.monotonic() + 60
        while console.stat().st_blocks * 512 > kept + 4096 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert console.stat().st_blocks * 512 <= kept + 4096
        assert running.console(1) == [killed]
    assert done.oom_kills == ("eater (pid 4321)",)
