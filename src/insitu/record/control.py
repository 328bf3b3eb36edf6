"""``--control``: a program that starts and stops counting, by words in a pipe or FIFO, as perf stat takes them."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final, Self

from insitu.errors import InsituError

__all__ = ["Control"]

_USAGE: Final = "--control fd:FD[,ACK_FD] or fifo:PATH[,ACK_PATH]"
_MOST_BYTES: Final = 4096  # of a word without its newline


class Control:
    """Words, each on a line. ``answer()`` says that one was obeyed, to whoever sent it."""

    def __init__(self, fd: int, answers: int) -> None:
        self._fd, self._answers = fd, answers
        self._kept: list[int] = []
        self._rest = b""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Opens what ``--control`` names. Raises InsituError."""
        kind, _, names = text.partition(":")
        first, *more = names.split(",")
        if kind not in ("fd", "fifo") or not first or len(more) > 1:
            raise InsituError(f"--control {text}: not a control channel", remedy=_USAGE, status=2)
        own = _descriptor if kind == "fd" else _fifo
        fd = own(first, text)
        try:
            return cls(fd, own(more[0], text) if more else -1)
        except BaseException:
            os.close(fd)
            raise

    @property
    def fd(self) -> int:
        """Readable when there are words."""
        return self._fd

    def words(self) -> list[str]:
        """Returns the words that have come; never waits after ``fd`` became readable."""
        try:
            data = os.read(self._fd, _MOST_BYTES)
        except BlockingIOError:
            return []
        if not data:
            self._end()
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_MOST_BYTES]
        return [line.strip(b"\0 \r").decode(errors="replace") for line in lines]

    def answer(self) -> None:
        """Say that a word was obeyed; nobody waits for it if the channel is full or closed."""
        if self._answers >= 0:
            with contextlib.suppress(OSError):
                os.write(self._answers, b"ack\n")

    def _end(self) -> None:
        """Nobody writes any more: ``fd`` is readable no more, too, where it would be for ever."""
        silent, kept = os.pipe2(os.O_CLOEXEC)
        os.dup2(silent, self._fd, inheritable=False)
        os.close(silent)
        self._kept.append(kept)

    def close(self) -> None:
        """Close all. Idempotent."""
        for fd in (self._fd, self._answers, *self._kept):
            if fd >= 0:
                os.close(fd)
        self._fd = self._answers = -1
        self._kept.clear()


def _descriptor(text: str, whole: str) -> int:
    try:
        number = int(text)
        if stat.S_ISREG(os.fstat(number).st_mode):
            raise InsituError(f"--control {whole}: {text} is a file, not a pipe", remedy=_USAGE, status=2)
        return os.dup(number)
    except (ValueError, OverflowError, OSError):
        raise InsituError(f"--control {whole}: {text} is not an open descriptor", remedy=_USAGE, status=2) from None


def _fifo(path: str, whole: str) -> int:
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
            raise InsituError(f"--control {whole}: {path} is not a FIFO", remedy=f"mkfifo {path}", status=2)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # as perf: it never ends
    except OSError as error:
        raise InsituError(f"--control {whole}: {path}: {error.strerror}", remedy=_USAGE, status=2) from None
