"""Files that appear whole or not at all, and the directory of temporary ones.

A signal may raise an exception between any two lines. So a name is chosen before the file is made, and what is
written has none until it is whole, where the file system can do that (O_TMPFILE, open(2)).

What is recorded may be memory that only root could read: files and directories are for their owner alone, whatever
the umask.
"""

# The probe language starts without pathlib.
# ruff: noqa: PTH105, PTH108, PTH120

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator

__all__ = ["make_directory", "name_beside", "naming", "new_file", "temporary_home", "write_all", "write_whole"]

_FILE = 0o600
_DIRECTORY = 0o700


def temporary_home() -> str:
    """``${TMPDIR:-/tmp}``. tempfile.gettempdir() tries directories by writing a file, which a signal would leave."""
    return os.environ.get("TMPDIR") or "/tmp"


def name_beside(target: "str | os.PathLike[str]") -> str:
    """An unpredictable name in the directory of ``target``, to be renamed to it."""
    directory, name = os.path.split(os.fspath(target))
    return os.path.join(directory, f".{name[:40]}.{os.urandom(6).hex()}.partial")  # noqa: PTH118


def make_directory(path: "str | os.PathLike[str]") -> None:
    """Make a directory that only its owner may enter. Raises OSError."""
    os.mkdir(path, _DIRECTORY)  # noqa: PTH102


def new_file(path: "str | os.PathLike[str]") -> int:
    """A descriptor that appends to a new file, readable by its owner alone. Raises OSError, also if there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, _FILE)


def write_whole(target: "str | os.PathLike[str]", data: bytes | Iterable[bytes], mode: int = _FILE) -> None:
    """Replace ``target`` by a file with ``data`` (or its pieces) and this mode, atomically.

    Raises OSError, of which FileExistsError where a device, a pipe or a socket is there: it is no file to replace.
    """
    _refuse_special(target)
    temporary = name_beside(target)
    try:
        with naming(target, temporary):
            with _without_name(os.path.dirname(temporary) or ".") as fd:
                if fd is None:
                    with open(temporary, "xb") as file:  # noqa: PTH123
                        _write(file.fileno(), data, mode)
                else:
                    _write(fd, data, mode)
                    # A directory's descriptor makes it linkat(2), which follows the link.
                    os.link(f"/proc/self/fd/{fd}", temporary, src_dir_fd=fd)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _refuse_special(path: "str | os.PathLike[str]") -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
            raise FileExistsError(errno.EEXIST, "A device, pipe or socket is there", os.fspath(path))


@contextlib.contextmanager
def naming(path: "str | os.PathLike[str]", temporary: "str | os.PathLike[str]" = "") -> Iterator[None]:
    """Give an OSError that names no file, as of write(2), or the ``temporary`` one, this path."""
    try:
        yield
    except OSError as error:
        if error.filename is None or os.fspath(temporary) in (error.filename, error.filename2):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextlib.contextmanager
def _without_name(directory: str) -> Iterator[int | None]:
    """A descriptor of a new file without a name; None where the file system, or a missing /proc, rules that out."""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        fd = -1
    try:
        yield fd if fd >= 0 and os.path.exists(f"/proc/self/fd/{fd}") else None  # noqa: PTH110
    finally:
        if fd >= 0:
            os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, of which write(2) may take a part. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _write(fd: int, data: bytes | Iterable[bytes], mode: int) -> None:
    for piece in (data,) if isinstance(data, bytes) else data:
        write_all(fd, piece)
    os.fchmod(fd, mode)
