"""A script's text, spans of it, and errors with their location: file, line, column, the line itself and a caret."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from msgspec import Struct

from insitu.errors import InsituError
from insitu.terminal_text import printable_lines

__all__ = ["ScriptError", "Source", "Span"]


class Span(Struct, frozen=True, order=True):
    """Half-open range of character offsets in a script."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """From the beginning of this span to the end of the other."""
        return Span(self.start, max(self.end, other.end))


class Source:
    """The text of a script, and ``name``: what errors call it: a path, "-e" for text given with it, "stdin".

    The texts of files that it imports follow its own; offsets, lines and columns count through all of them. A byte
    order mark in front of the text is dropped, and does not count.
    """

    def __init__(self, text: str, name: str = "stdin", *, built_in: bool = False, scope: str = "") -> None:
        self.text = text.removeprefix("\ufeff")
        self.name = name
        self.built_in = built_in  # a program of ours, which its user has not written
        self.scope = scope  # of such a program: see scripts.Program
        self._files = [(1, name)]  # the line that each begins with

    @property
    def has_imports(self) -> bool:
        """Whether the text contains other files."""
        return len(self._files) > 1

    def add(self, text: str, name: str) -> int:
        """Append an imported file's text: the offset where it begins."""
        start = len(self.text) + 1
        self.text += "\n" + text
        self.__dict__.pop("_line_starts", None)
        self._files.append((self.line_column(start)[0], name))
        return start

    def name_at(self, span: Span) -> str:
        """The name of the file that a span's beginning is in."""
        return self._file(self.line_column(span.start)[0])[1]

    def _file(self, line: int) -> tuple[int, str]:
        return self._files[bisect_right(self._files, (line, "\U0010ffff")) - 1]

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        position = self.text.find("\n")
        while position >= 0:
            starts.append(position + 1)
            position = self.text.find("\n", position + 1)
        return starts

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column, both counted from 1, of a character offset."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line (counted from 1), without its end."""
        if not 1 <= number <= len(self._line_starts):
            return ""
        start = self._line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else len(self.text)].rstrip("\r")

    def where(self, span: Span) -> str:
        """``name:line:column`` of a span's beginning, in its file."""
        line, column = self.line_column(span.start)
        first, name = self._file(line)
        return f"{name}:{line - first + 1}:{column}"

    def excerpt(self, span: Span) -> str:
        """The line that holds the span's beginning, and carets under what the span covers of it.

        Of a long line, what is around the beginning; … stands for the rest.
        """
        number, column = self.line_column(span.start)
        line, at = self.line(number), column - 1
        begin, end = _window(line, at)
        before, covered = line[begin:at], line[at : min(span.end - span.start + at, end)]
        left, right = "…" * (begin > 0), "…" * (end < len(line))
        # Tabs are kept in the second line too, so that the caret stands under its character at any tab width.
        indent = "".join("\t" if c == "\t" else " " * _columns(c) for c in left + before)
        carets = "^" * max(1, sum(map(_columns, covered)))
        return f"{left}{printable_lines(line[begin:end])}{right}\n{indent}{carets}"


_COLUMNS = 160  # of a line that are shown
_COLUMNS_BEFORE = 80  # of these, in front of the caret
_TAB_COLUMNS = 8  # at most


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes; 1 for a tab, as for a caret under it."""
    if character.isascii():
        return 1 if character == "\t" else len(printable_lines(character))
    from unicodedata import combining, east_asian_width

    if combining(character):
        return 0
    shown = printable_lines(character)
    return len(shown) if shown != character else 2 if east_asian_width(character) in "WF" else 1


def _window(line: str, at: int) -> tuple[int, int]:
    """The part of a line that is shown: from where to where, ``at`` in it."""
    at = min(at, len(line))  # the end of a script may come after a carriage return, which ends its line

    def columns(index: int) -> int:
        return _TAB_COLUMNS if line[index] == "\t" else _columns(line[index])

    def further_left(begin: int, room: int) -> tuple[int, int]:
        while begin > 0 and columns(begin - 1) <= room:
            begin -= 1
            room -= columns(begin)
        return begin, room

    begin, unused = further_left(at, _COLUMNS_BEFORE)
    room, end = _COLUMNS - _COLUMNS_BEFORE + unused, at
    while end < len(line) and columns(end) <= room:
        room -= columns(end)
        end += 1
    if end == len(line):
        begin, _ = further_left(begin, room)
    return begin, end


class ScriptError(InsituError):
    """Something is wrong with a script. ``rendered`` is the whole message with the excerpt, several lines."""

    def __init__(self, message: str, source: Source, span: Span, *, remedy: str = "") -> None:
        super().__init__(f"{source.where(span)}: {message}", remedy=remedy)
        self.plain = message
        self.source = source
        self.span = span
        self.log = ""  # the verifier's, when it refused the program

    @property
    def rendered(self) -> str:
        """The message, the line of the script with a caret, and the remedy, on lines of their own."""
        lines = [f"{self.source.where(self.span)}: error: {self.plain}", self.source.excerpt(self.span)]
        if self.remedy:
            lines.append(f"note: {self.remedy}")
        return "\n".join(lines)
