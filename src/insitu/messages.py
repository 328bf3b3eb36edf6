"""Messages to the user: lines on standard error that begin with "insitu: ", safe for any terminal."""

import sys

from insitu.terminal_text import TerminalStream, is_plain, printable, printable_lines

__all__ = ["block", "error", "note", "one_line", "progress", "warning"]

_ERASE_LINE = "\r\x1b[K"

_progress_shown = False


def note(text: str) -> None:
    """Print one line of information."""
    _write(f"insitu: {one_line(text)}\n")


def warning(text: str) -> None:
    """Print one line about something that went wrong while the rest goes on."""
    _write(f"insitu: warning: {one_line(text)}\n")


def error(message: str, remedy: str = "") -> None:
    """Print one line about a failure, and in parentheses what to do about it."""
    _write(f"insitu: {one_line(f'{message} ({remedy})' if remedy else message)}\n")


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
