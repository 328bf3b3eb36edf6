"""The one renderer of tables: through rich on a terminal, in aligned columns of whole values in a pipe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from insitu.terminal_text import printable
from insitu.views.function_names import told_apart

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement

__all__ = ["Cell", "Column", "Line", "Table", "plain_lines", "rich_table", "shorten"]

Cell = tuple[str, str]
"""A text and rich's style for it."""
Line = list[Cell]

_NARROW: Final = 60  # columns; below, tables lose their spare columns
_LEAST_NAME: Final = 12  # columns; a text is not shortened below this
_NAME: Final = 16  # columns; spare columns are left out before texts are shortened below this


@dataclass(frozen=True)
class Column:
    """A table's column."""

    title: str
    align: Literal["left", "right"] = "right"
    most: int = 0
    """Columns that it takes at most on a terminal; 0: as many as there are."""
    spare: bool = False
    """Whether it is left out on a narrow terminal: those of the lowest rank first, of equal ones the first."""
    rank: int = 0
    fold: bool = False
    """Whether a text that is too long goes on on the next line; else it loses its middle."""
    names: bool = False
    """Whether texts are functions' names: one that is too long is shown in its short form."""


@dataclass(frozen=True)
class Table:
    """Rows of cells. ``head`` False leaves the titles out; ``indent`` is in columns, on a terminal only."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    head: bool = True
    indent: int = 0


def plain_lines(table: Table) -> Iterator[Line]:
    """The lines of a table for a pipe: nothing is shortened, and the title line begins with "#"."""
    rows = [[(printable(text), style) for text, style in row] for row in table.rows]
    titles = [(printable(column.title), "") for column in table.columns]
    shown = [titles, *rows] if table.head else rows
    widths = [max((len(row[at][0]) for row in shown), default=0) for at in range(len(table.columns))]
    for number, row in enumerate(shown):
        cells = [
            text.rjust(wide) if column.align == "right" else text.ljust(wide)
            for column, wide, (text, _) in zip(table.columns, widths, row, strict=True)
        ]
        yield [("# " if table.head and number == 0 else "  ", ""), ("  ".join(cells), "")]


def rich_table(table: Table, width: int) -> "rich.table.Table":
    """The table for a terminal of ``width`` columns."""
    import rich.table
    from rich.text import Text

    shown = _fitting(table, width)
    made = rich.table.Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=table.head, header_style="bold"
    )
    if table.indent:
        made.add_column(width=max(table.indent - 2, 0))
    for column in (table.columns[at] for at in shown):
        made.add_column(
            Text(printable(column.title)),
            justify=column.align,
            no_wrap=column.align == "right",
            max_width=max(column.most, len(column.title)) if column.most else None,
        )
    short = {at: _short_forms(table, at) for at in shown if table.columns[at].names}
    for number, row in enumerate(table.rows):
        cells: list[Text | _Shortened] = []
        for at in shown:
            text, style = row[at]
            if table.columns[at].fold:
                cells.append(Text(printable(text), style=style, overflow="fold"))
            elif table.columns[at].align == "right":
                cells.append(Text(printable(text), style=style))
            else:
                whole = printable(text)
                cells.append(_Shortened(whole, style, short[at][number] if at in short else whole))
        made.add_row(*([""] if table.indent else []), *cells)
    return made


def _fitting(table: Table, width: int) -> list[int]:
    """The columns that a terminal has room for."""
    if width < _NARROW:
        return [at for at, column in enumerate(table.columns) if not column.spare]
    needed = {}
    for at, column in enumerate(table.columns):
        widest = max([len(column.title), *(len(row[at][0]) for row in table.rows)])
        needed[at] = 2 + (widest if column.align == "right" else min(widest, column.most or _NAME, _NAME))
    for at, column in sorted(enumerate(table.columns), key=lambda each: each[1].rank):
        if column.spare and table.indent + sum(needed.values()) - 2 > width:
            del needed[at]
    return list(needed)


def _short_forms(table: Table, at: int) -> list[str]:
    return told_apart([printable(row[at][0]) for row in table.rows])


@dataclass(frozen=True)
class _Shortened:
    """A text of which, where its column is too narrow, a shorter form is shown; if need be without its middle."""

    text: str
    style: str
    short: str

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        from rich.measure import Measurement

        whole = min(len(self.text), options.max_width)
        return Measurement(min(whole, _LEAST_NAME), whole)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        text = self.text if len(self.text) <= options.max_width else self.short
        yield Text(shorten(text, options.max_width), self.style, no_wrap=True, overflow="ellipsis")


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns: a long one keeps its beginning and, as more telling, more of its end."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[:width]
    tail = (width - 1) * 3 // 5
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"
