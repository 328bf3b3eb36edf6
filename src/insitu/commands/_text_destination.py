"""Where a run's text goes: standard output, standard error, a file, or a command's input."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import BinaryIO, Final, Self, cast

from insitu import messages
from insitu.errors import InsituError
from insitu.record.run import Destination

__all__ = ["TextDestination", "standard_error", "text_destination"]


_FULL: Final = (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EIO)


class TextDestination(Destination):
    """Standard output, or another stream that is open already."""

    def __init__(self, stream: BinaryIO | None = None, name: str = "") -> None:
        self.stream: BinaryIO = stream or sys.stdout.buffer
        self.name = name or "standard output"
        self._is_named = bool(name)
        self.outlives_failure = False
        """Whether a command is to run to its end when nothing can be written any more."""
        self.reader_gone = False
        """Whether it was the reader that ended."""
        self.when_attached: Callable[[], object] = lambda: None
        """Called when all sources have started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """An error of writing says where to; of standard output, and of a reader that has gone, everybody knows."""
        if self._is_named and isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
            raise OSError(error.errno, error.strerror, self.name) from error

    def attached(self) -> None:
        self.when_attached()

    def failed(self, error: OSError) -> str:
        if not self.outlives_failure:
            raise error
        self.reader_gone = isinstance(error, BrokenPipeError)
        return f"{self.name}: {error.strerror}: what follows is not written; the command runs on"


class _File(TextDestination):
    """A file of text, opened at once, so that a refusal comes early, and emptied when everything is attached."""

    def __init__(self, path: str, *, append: bool = False) -> None:
        self._path = path
        self._settled = False
        self._new = not os.path.lexists(path)
        self._append = append
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else 0)
        super().__init__(os.fdopen(_opened(path, flags), "wb"), path)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with contextlib.suppress(OSError):  # of text that a full disk has refused before
            self.stream.close()
        if self._new and not self._settled:
            os.unlink(self._path)  # noqa: PTH108
        super().__exit__(kind, error, trace)

    def failed(self, error: OSError) -> str:
        if not self.outlives_failure:
            raise OSError(error.errno, error.strerror, self._path)
        return super().failed(error)

    def settle(self) -> None:
        self._settled = True
        if not self._append and stat.S_ISREG(os.fstat(self.stream.fileno()).st_mode):
            self.stream.truncate(0)


def _opened(path: str, flags: int) -> int:
    """A descriptor of the file. A FIFO waits until somebody reads it."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
            try:
                fd = os.open(path, flags | os.O_NONBLOCK)
                os.set_blocking(fd, True)
                return fd
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            messages.note(f"{path} is a FIFO: waiting for a reader")
    return os.open(path, flags, 0o666)


class _Command(TextDestination):
    """A shell command's standard input: ``-o '|cmd'``."""

    def __init__(self, command: str) -> None:
        import subprocess

        self._process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE)
        super().__init__(cast(BinaryIO, self._process.stdin))

    def __exit__(self, *raised: object) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self._process.wait()


def text_destination(path: str | None, *, append: bool = False, commands: bool = False) -> TextDestination:
    """Returns standard output without a path; with ``commands``, ``|cmd`` and ``!cmd`` are commands to write to."""
    if path is None:
        return TextDestination()
    if commands and path[:1] in ("|", "!"):
        return _Command(path[1:])
    return _File(path, append=append)


def standard_error() -> TextDestination:
    """Returns standard error, unbuffered. Raises InsituError if it was closed when this program started."""
    if sys.__stderr__ is None:
        raise InsituError("standard error is closed: nothing would be shown", remedy="-o FILE")
    return TextDestination(open(sys.stderr.fileno(), "wb", buffering=0, closefd=False), "standard error")
