"""A script's text, spans of it, and errors with their location: file, line, column, the line itself and a caret."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from msgspec import Struct

from insitu.errors import InsituError

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

    The texts of files that it imports follow its own; offsets, lines and columns count through all of them.
    """

    def __init__(self, text: str, name: str = "stdin") -> None:
        self.text = text
        self.name = name
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
        """The line that holds the span's beginning, and carets under what the span covers of it."""
        number, column = self.line_column(span.start)
        line = self.line(number)
        width = max(1, min(span.end - span.start, len(line) - column + 1))
        # Tabs are kept in the second line too, so that the caret stands under its character at any tab width.
        indent = "".join("\t" if c == "\t" else " " for c in line[: column - 1])
        return f"{line}\n{indent}{'^' * width}"


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
