"""Atomic writes: a temporary file, then rename(2).

What a session holds may be memory that only root could read: its files are readable by their owner alone.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["make_directory", "named_for_writing", "new_file", "write_whole"]

_FILE: Final = 0o600
_DIRECTORY: Final = 0o700


def make_directory(path: Path, *, exist_ok: bool = False) -> None:
    """Make a directory that only its owner may enter, whatever the umask. Raises OSError."""
    path.mkdir(_DIRECTORY, exist_ok=exist_ok)


def new_file(path: Path) -> int:
    """A descriptor that appends to a new file, readable by its owner alone. Raises OSError, also if there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, _FILE)


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
    """A new empty private file with an unpredictable name in the directory of ``target``, to be renamed to it."""
    fd, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent)
    os.close(fd)
    return target.parent / Path(name).name  # as it was given: mkstemp makes the name absolute
