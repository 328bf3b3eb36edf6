"""Files that are whole or not there: written under another name, then renamed."""

import os
import tempfile
from pathlib import Path

__all__ = ["named_for_writing", "write_whole"]


def write_whole(target: Path, data: bytes) -> None:
    """Make ``target`` a file that holds ``data``, all of it or as it was. Raises OSError."""
    temporary = named_for_writing(target)
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def named_for_writing(target: Path) -> Path:
    """A new empty file beside ``target``, of a name that nobody could foresee, to be renamed to it."""
    fd, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent)
    os.fchmod(fd, 0o644)
    os.close(fd)
    return target.parent / Path(name).name  # as it was given: mkstemp makes the name absolute
