"""Lines of styled text: colours fitted to a terminal's width, whole and plain in a pipe.

A view yields lines of (text, style) pieces; only writing to a terminal imports rich.
"""

import io
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final, Literal

from insitu.messages import printable

__all__ = ["Column", "Line", "Screen", "heat", "printable", "shorten", "table"]

Piece = tuple[str, str]
Line = list[Piece]

# Share of all in per cent, from here on -> rich style.
_HEAT: Final = ((20.0, "bold red"), (5.0, "red"), (1.0, "yellow"), (0.2, ""), (0.0, "dim"))
_NARROW: Final = 60  # columns; below, tables lose their spare columns
_LEAST_NAME: Final = 12  # columns; a name is not shortened below this, the line is cut instead


@dataclass(frozen=True)
class Screen:
    """Where lines go: ``width`` is None when nothing may be shortened, as in a pipe or a file."""

    out: IO[str]
    width: int | None = None

    @classmethod
    def of(cls, out: IO[str]) -> "Screen":
        """The terminal behind ``out``, or plain text where there is none (or TERM is "dumb")."""
        if not out.isatty() or os.environ.get("TERM") == "dumb":
            return cls(out)
        return cls(out, shutil.get_terminal_size().columns)

    @property
    def unicode(self) -> bool:
        """Whether box-drawing characters can be written."""
        return (getattr(self.out, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")

    def write(self, lines: Iterable[Line]) -> None:
        """Write lines, each on a line of its own however long it is."""
        if isinstance(self.out, io.TextIOWrapper):
            self.out.reconfigure(errors="backslashreplace")
        if self.width is None:
            self.out.writelines("".join([text for text, _ in line]).rstrip() + "\n" for line in lines)
            return
        from rich.console import Console
        from rich.text import Text

        console = Console(file=self.out, width=self.width, force_terminal=True, highlight=False, markup=False)
        for line in lines:
            text = Text.assemble(*line)
            text.truncate(self.width, overflow="ellipsis")
            console.print(text, no_wrap=True, overflow="ellipsis", crop=True)


@dataclass(frozen=True)
class Column:
    """A table's column. One column may be "name": it comes last and takes the rest of the line."""

    title: str
    align: Literal["left", "right", "name"] = "right"
    most: int = 40
    """Columns that a "left" column takes at most on a terminal."""
    spare: bool = False
    """Whether it is left out on a narrow terminal."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Piece]], width: int | None) -> Iterator[Line]:
    """Lines of a table, its title line first; a "name" column and long "left" columns are shortened in the middle.

    Without a ``width`` nothing is shortened, and the title line begins with "#" as all that is not data does then.
    """
    shown = [at for at, column in enumerate(columns) if width is None or width >= _NARROW or not column.spare]
    columns = [columns[at] for at in shown]
    rows = [[(printable(row[at][0]), row[at][1]) for at in shown] for row in rows]
    widths = []
    for at, column in enumerate(columns):
        widest = max([len(column.title), *(len(row[at][0]) for row in rows)])
        if width is not None and column.align == "left":
            widest = min(widest, max(column.most, len(column.title)))
        widths.append(widest)
    if width is not None and columns[-1].align == "name":
        widths[-1] = max(width - sum(widths[:-1]) - 2 * (len(columns) - 1), _LEAST_NAME)
    titles = [(column.title, "bold") for column in columns]
    for row in [titles, *rows]:
        line: Line = [] if width is not None else [("# " if row is titles else "  ", "")]
        for column, wide, (text, style) in zip(columns, widths, row, strict=True):
            if column.align == "right":
                cell = text.rjust(wide)
            elif column.align == "left":
                cell = (text if width is None else shorten(text, wide)).ljust(wide)
            else:
                cell = text if width is None else shorten(text, wide)
            line += [(cell, style), ("  ", "")]
        yield line[:-1]


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns: a long one keeps its beginning and, as more telling, more of its end."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[:width]
    tail = (width - 1) * 3 // 5
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def heat(percent: float) -> str:
    """The style of a share of all."""
    return next(style for least, style in _HEAT if abs(percent) >= least or least == 0.0)
