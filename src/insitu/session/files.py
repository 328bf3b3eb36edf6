"""Atomic writes: a temporary file, then rename(2)."""

import os
import tempfile
from pathlib import Path

__all__ = ["named_for_writing", "write_whole"]


def write_whole(target: Path, data: bytes) -> None:
    """Replace ``target`` by a file with ``data``, atomically. Raises OSError."""
    temporary = named_for_writing(target)
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def named_for_writing(target: Path) -> Path:
    """A new empty file with an unpredictable name in the directory of ``target``, to be renamed to it."""
    fd, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent)
    os.fchmod(fd, 0o644)
    os.close(fd)
    return target.parent / Path(name).name  # as it was given: mkstemp makes the name absolute
