"""What a view has made, to standard output or to a file: all of it, or nothing."""

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from insitu.errors import InsituError
from insitu.files import write_whole
from insitu.terminal_text import TerminalStream

__all__ = ["write_file", "write_stdout"]


def write_stdout(data: bytes | Iterable[bytes]) -> None:
    """Write ``data`` (or its pieces), on a terminal as escaped text, to standard output.

    Raises BrokenPipeError if it is closed.

    ``sys.stdout.buffer`` is a raw file when Python runs unbuffered (-u, PYTHONUNBUFFERED): its ``write`` may write
    a part only, and says so in a result that is easily overlooked.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    if isinstance(sys.stdout, TerminalStream):
        for piece in pieces:
            sys.stdout.write(piece.decode("utf-8", "surrogateescape"))
        return
    sys.stdout.flush()
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.writelines(pieces)


def write_file(target: Path, data: bytes | Iterable[bytes]) -> None:
    """Make ``target`` the file that holds ``data`` (or its pieces); an older one stays unless that succeeds.

    What is there and no plain file (a device, a pipe) is written to as it is. Raises OSError naming ``target``,
    InsituError where another name would help.
    """
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as out:
                out.writelines((data,) if isinstance(data, bytes) else data)
        else:
            _replace(target.resolve(), data)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOENT, errno.ENOTDIR):
            raise InsituError(f"cannot write {target}: {error.strerror}", remedy="choose another file") from None
        raise OSError(error.errno, error.strerror, str(target)) from None


def _replace(target: Path, data: bytes | Iterable[bytes]) -> None:
    """Write beside ``target`` and rename; the file's permissions are kept, or are those of a new file."""
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    write_whole(target, data, mode)


def _umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
