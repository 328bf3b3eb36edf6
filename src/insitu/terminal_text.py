"""Text where it meets a terminal: names that others chose never drive it, and every terminal can show it.

``prepare`` makes standard output and error, where they are terminals, streams that escape what they are given; to
pipes and files bytes go as they are.
"""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import IO, Any, Final

__all__ = [
    "UNENCODABLE",
    "TerminalStream",
    "columns",
    "fitted_columns",
    "is_plain",
    "prepare",
    "print_line",
    "printable",
    "printable_lines",
]

UNENCODABLE: Final = "insitu-unencodable"
"""The error handler of streams: undecodable bytes are written as they were, drawing characters as similar ASCII."""

# Each takes one column, so that tables stay aligned.
_ASCII: Final = {"…": "~", "→": ">", "✓": "+", "✗": "x", "·": ".", "─": "-", "├": "|", "└": "`", "│": "|"}

_LEAST_COLUMNS: Final = 20
_MOST_COLUMNS: Final = 1000  # lines are padded to it


def printable(text: str) -> str:
    """``text`` with control characters, newlines, bidirectional controls, lone surrogates and the like escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """``text`` with all of these escaped but newlines and tabs; what JSON may hold in a way that leaves it JSON."""
    if text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" else f"\\u{ord(c):04x}" if "\x7f" <= c <= "\xff" and not c.isprintable() else printable(c)
        for c in text
    )


class TerminalStream(io.TextIOWrapper):
    """A terminal that escapes what is written to it, but for newlines and tabs."""

    def write(self, text: str) -> int:
        return super().write(printable_lines(text))

    def write_styled(self, text: str) -> int:
        """Write text whose control characters are our own."""
        return super().write(text)


def prepare() -> None:
    """Make standard output and error safe: to be called once, before anything is written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TerminalStream) or not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty():
            stream.flush()
            encoding = "ascii" if _in_c_locale() else stream.encoding
            safe = TerminalStream(
                stream.buffer, encoding, UNENCODABLE, line_buffering=True, write_through=stream.write_through
            )
            setattr(sys, name, safe)
        elif name == "stdout":
            stream.reconfigure(errors=UNENCODABLE)


def is_plain(out: IO[Any]) -> bool:
    """Whether ``out`` is not a terminal, or is one that does not understand escape sequences."""
    return not out.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb")


def columns(out: IO[Any]) -> int:
    """The width of the terminal ``out``, or what COLUMNS says, within bounds; 80 where nothing says it."""
    width = _said_columns() or 0
    with suppress(OSError, ValueError):  # no terminal
        width = width or os.get_terminal_size(out.fileno()).columns
    return min(max(width, _LEAST_COLUMNS), _MOST_COLUMNS) if width else 80


def fitted_columns(out: IO[Any]) -> int | None:
    """The width that lines for ``out`` have to fit: COLUMNS, or a terminal's; None in a pipe or file without it."""
    return _said_columns() if is_plain(out) else columns(out)


def _said_columns() -> int | None:
    """The width that COLUMNS says, within bounds; None where it says none."""
    said = os.environ.get("COLUMNS", "")
    width = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
    return min(max(width, _LEAST_COLUMNS), _MOST_COLUMNS) if width else None


def print_line(text: str) -> None:
    """Print one line to standard output; on a terminal newlines within ``text`` are escaped too."""
    print(printable(text) if isinstance(sys.stdout, TerminalStream) else text)


def _in_c_locale() -> bool:
    """Whether the user asked for the C locale. Python takes it for UTF-8 (PEP 538: it sets LC_CTYPE; PEP 540)."""
    asked = os.environ
    if asked.get("PYTHONIOENCODING") or asked.get("PYTHONUTF8"):
        return False
    if not asked.get("LC_ALL") and asked.get("LANG") in ("C", "POSIX"):
        try:
            with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - as it was when Python started
                return not any(entry.startswith(b"LC_CTYPE=") for entry in file.read().split(b"\0"))
        except OSError:
            return False
    return (asked.get("LC_ALL") or asked.get("LC_CTYPE")) in ("C", "POSIX")


def _encoded(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = b""
    for character in error.object[error.start : error.end]:
        if "\udc80" <= character <= "\udcff":
            written += bytes([ord(character) - 0xDC00])
        else:
            written += _ASCII.get(character, character).encode("ascii", "backslashreplace")
    return written, error.end


codecs.register_error(UNENCODABLE, _encoded)
