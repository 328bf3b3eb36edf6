"""`insitu trace -l` on a kernel that has kprobes and fentry."""

import sys
from typing import Any

# fs/read_write.c of Linux 6.12
_VFS_READ = ["    struct file * file", "    char * buf", "    size_t count", "    loff_t * pos"]


def test_functions_are_listed_with_the_arguments_of_their_prototypes(guests: Any) -> None:
    def listed(pattern: str) -> list[str]:
        done = guests.running("6.12").run([sys.executable, "-m", "insitu", "trace", "-lv", pattern])
        assert done.status == 0, done.stderr.decode()
        lines: list[str] = done.stdout.decode().splitlines()
        return lines

    assert listed("kprobe:vfs_read") == ["kprobe:vfs_read", *_VFS_READ]
    assert listed("kretprobe:vfs_read") == ["kretprobe:vfs_read", "    ssize_t retval"]
    assert listed("fexit:vfs_read") == ["fexit:vmlinux:vfs_read", *_VFS_READ, "    ssize_t retval"]
    # A search does not list what fires at the return of what it lists.
    assert listed("*vfs_read") == ["kprobe:vfs_read", *_VFS_READ, "fentry:vmlinux:vfs_read", *_VFS_READ]
