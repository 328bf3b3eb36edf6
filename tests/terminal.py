"""Commands on a pseudo-terminal, and names that would drive a terminal that shows them as they are."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["HOSTILE", "INSITU", "Shown", "assert_harmless", "on_terminal", "shown_text"]

INSITU = [sys.executable, "-m", "insitu"]

# A title (OSC), a colour (CSI, in both forms), overrides and isolates of direction, invisible characters, line ends.
HOSTILE = "a\x1b]0;owned\x07\x1b[31m\x9b1m\u202e\u2066\u200f\u061c\u200b\u2028\x7f\r\n\tz"

_OURS = re.compile(rb"\x1b\[[0-9;]*m|\r\x1b\[K")  # colours, and a progress line that is replaced


class Shown(NamedTuple):
    """What a command wrote to its terminal, and its exit status."""

    data: bytes
    status: int


def on_terminal(
    words: Sequence[object],
    *,
    columns: int = 100,
    env: dict[str, str | None] | None = None,
    typed: bytes = b"",
    **options: Any,
) -> Shown:
    """Run a command with standard output and error on a terminal; with ``typed`` standard input as well."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment: dict[str, str | None] = {**os.environ, "TERM": "xterm-256color", "COLUMNS": None, "NO_COLOR": None}
    child = subprocess.Popen(
        list(map(os.fsencode, map(str, words))),
        stdin=theirs if typed else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in (environment | (env or {})).items() if value is not None},
        start_new_session=True,
        **options,
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed)
    data = b""
    try:
        while part := os.read(ours, 1 << 16):
            data += part
    except OSError:  # EIO: the command has closed its end
        pass
    os.close(ours)
    return Shown(data, child.wait(60))


def shown_text(data: bytes) -> str:
    """The text of what was written, without our own colours."""
    return _OURS.sub(b"", data).decode().replace("\r\n", "\n")


def assert_harmless(data: bytes) -> None:
    """Fail if a terminal was sent anything but text, lines, tabs and our own colours."""
    harmful = {c for c in shown_text(data) if not (c.isprintable() or c in "\n\t")}
    assert not harmful, (harmful, data)
