"""A cgroup whose processes may use little memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A new cgroup, of version 1 or 2, with so many bytes of memory; its processes must have ended at the end."""
    root = Path("/sys/fs/cgroup")
    one = (root / "memory/cgroup.procs").exists()
    if not one and not (root / "cgroup.procs").exists():
        pytest.skip("no memory cgroup is mounted")
    if not one:
        (root / "cgroup.subtree_control").write_text("+memory")
    group = root / ("memory" if one else "") / f"insitu-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if one else "memory.max")).write_text(str(limit))
        yield group
    finally:
        group.rmdir()
