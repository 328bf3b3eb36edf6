"""Files that a script names: what runs as root must not come from where anybody puts files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from insitu.foreign_files import read_foreign
from insitu.probe.source import Source, Span

__all__ = ["directories", "home_of", "read_named"]

_MAX_BYTES = 1 << 20  # of one file


def home_of(source: Source) -> Path:
    """The directory of a script; with -e, the current one."""
    script = Path(source.name)
    return script.parent if script.is_file() else Path()


def directories(source: Source, span: Span) -> list[Path]:
    """Where a name at a span is looked for: beside the file that has it, then beside the script."""
    home, name = home_of(source), source.name_at(span)
    return [home if name == source.name else Path(name).parent, home]


def read_named(path: Path) -> str:
    """A file's text. :raises ValueError: when others could have written it, or it is too large. :raises OSError:"""
    file, directory = path.stat(), path.parent.stat()
    sticky = directory.st_mode & stat.S_ISVTX and file.st_uid in (0, os.geteuid())
    if file.st_mode & stat.S_IWOTH or (directory.st_mode & stat.S_IWOTH and not sticky):
        raise ValueError("it is writable by others")
    data = read_foreign(path, _MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").removeprefix("\ufeff")
