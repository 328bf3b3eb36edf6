"""Messages to the user: lines on standard error that begin with "insitu: ", safe for any terminal."""

import sys

from insitu.errors import with_remedy
from insitu.terminal_text import TerminalStream, is_plain, printable, printable_lines

__all__ = ["block", "error", "finish", "hide_warnings", "note", "one_line", "progress", "warning"]

_ERASE_LINE = "\r\x1b[K"

_MOST_LINES = 100  # of notes, and of warnings: one for each of 25,000 files or probes is of no use

_progress_shown = False
_lines = {"": 0, "warning: ": 0}
_hides_warnings = False


def note(text: str) -> None:
    """Print one line of information; see finish() for the limit."""
    _limited("", text)


def warning(text: str) -> None:
    """Print one line about something that went wrong while the rest goes on; see finish() for the limit."""
    if not _hides_warnings:
        _limited("warning: ", text)


def hide_warnings(hide: bool) -> None:
    """Whether warning() is to print nothing from now on."""
    global _hides_warnings
    _hides_warnings = hide


def error(message: str, remedy: str = "") -> None:
    """Print one line about a failure and what to do about it."""
    _write(f"insitu: {one_line(with_remedy(message, remedy))}\n")


def block(text: str, prefix: str = "insitu: ") -> None:
    """Print text of several lines, such as an excerpt of a script with a caret under it; ``prefix`` goes first."""
    _write(f"{prefix}{printable_lines(text)}\n")


def progress(text: str) -> None:
    """Show a line that the next message replaces; only on a terminal. An empty ``text`` removes it."""
    global _progress_shown
    if is_plain(sys.stderr):
        return
    _write(f"insitu: {one_line(text)}" if text else "")
    _progress_shown = bool(text)


def one_line(text: str) -> str:
    """``text`` on one line: white space as single spaces, what is not printable escaped."""
    return printable(" ".join(text.split()))


def finish() -> None:
    """Print how many notes and warnings there were beyond the limit, and start to count anew."""
    for kind, count in _lines.items():
        if count > _MOST_LINES:
            _write(f"insitu: {kind}{count - _MOST_LINES} more messages like these are not shown\n")
        _lines[kind] = 0


def _limited(kind: str, text: str) -> None:
    _lines[kind] += 1
    if _lines[kind] <= _MOST_LINES:
        _write(f"insitu: {kind}{one_line(text)}\n")


def _write(text: str) -> None:
    global _progress_shown
    if _progress_shown:
        text = _ERASE_LINE + text
        _progress_shown = False
    try:
        if isinstance(sys.stderr, TerminalStream):
            sys.stderr.write_styled(text)
        else:
            sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # standard error is closed or full: there is nowhere left to say so
