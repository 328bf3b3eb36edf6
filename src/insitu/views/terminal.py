"""Lines of styled text and tables: colours fitted to a terminal's width, whole and plain in a pipe.

A view yields lines of (text, style) pieces, and tables; only writing to a terminal imports rich.
"""

import io
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from insitu.terminal_text import UNENCODABLE, TerminalStream, fitted_columns, is_plain, printable
from insitu.views.table import Cell, Line, Table, plain_lines, rich_table, shorten

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Block", "Line", "Prose", "Screen", "heat", "shorten", "wrapped"]

Block = Line | Table


class Prose(list[Cell]):
    """A line of words: where it is too long for a terminal it goes on below, as far indented; nothing is cut off."""


_LEAST_WRAPPED: Final = 8  # columns

# Share of all in per cent, from here on -> rich style.
_HEAT: Final = ((20.0, "bold red"), (5.0, "red"), (1.0, "yellow"), (0.2, ""), (0.0, "dim"))


@dataclass(frozen=True)
class Screen:
    """Where lines go: ``width`` is None when nothing may be shortened, as in a pipe or a file without COLUMNS.

    Without ``styled`` there are no colours, and lines that are not data begin with "#", as without a width.
    """

    out: IO[str]
    width: int | None = None
    styled: bool = True

    @classmethod
    def of(cls, out: IO[str]) -> "Screen":
        """The terminal that ``out`` is, or plain text where it is not a terminal (or TERM is "dumb" or unset)."""
        return cls(out, fitted_columns(out), styled=not is_plain(out))

    @property
    def plain(self) -> bool:
        """Whether lines that are not data are marked."""
        return self.width is None or not self.styled

    def write(self, blocks: Iterable[Block]) -> None:
        """Write lines and tables, all texts escaped. A terminal cuts long lines, but those of words go on below."""
        if isinstance(self.out, io.TextIOWrapper):
            self.out.reconfigure(errors=UNENCODABLE)
        if self.width is None:
            for block in blocks:
                lines = plain_lines(block) if isinstance(block, Table) else [block]
                self.out.writelines("".join([printable(text) for text, _ in line]).rstrip() + "\n" for line in lines)
            return
        console = self._console()
        write = self.out.write_styled if isinstance(self.out, TerminalStream) else self.out.write
        for block in blocks:
            console.begin_capture()
            if isinstance(block, Table):
                console.print(rich_table(block, self.width if self.styled else max(self.width - 2, 1)))
            else:
                _print_line(console, block, self.width)
            text = console.end_capture()
            write(text if self.styled else _unstyled(text, block))

    def _console(self) -> "Console":
        from rich.console import Console

        # With any height given too, rich does not read COLUMNS, which may have too many digits for it.
        return Console(
            file=self.out,
            width=self.width,
            height=25,
            force_terminal=True,
            color_system="auto" if self.styled else None,
            highlight=False,
            markup=False,
        )


def _unstyled(text: str, block: Block) -> str:
    """Lines as those of ``plain_lines``: a table's titles are marked, and none ends in spaces."""
    lines = text.split("\n")[:-1]
    if isinstance(block, Table):
        lines = [("# " if block.head and at == 0 else "  ") + line for at, line in enumerate(lines)]
    return "".join(line.rstrip() + "\n" for line in lines)


def _print_line(console: "Console", line: Line, width: int) -> None:
    from rich.text import Text

    text = Text.assemble(*((printable(text), style) for text, style in line))
    if isinstance(line, Prose):
        indent = min(len(text.plain) - len(text.plain.lstrip(" ")), max(width - _LEAST_WRAPPED, 0))
        text = text[indent:]
        for each in text.wrap(console, width - indent, overflow="fold") or [text]:
            each.rstrip()
            console.print(Text(" " * indent).append_text(each), no_wrap=True)
        return
    text.truncate(width, overflow="ellipsis")
    console.print(text, no_wrap=True, overflow="ellipsis", crop=True)


def wrapped(head: Cell, text: Cell, width: int | None) -> Iterator[Line]:
    """The lines of a text of which nothing may be cut off, such as advice: ``head`` goes before the first of them."""
    whole, style = printable(text[0]), text[1]
    lines = [whole]
    if width is not None:
        lines = textwrap.wrap(whole, max(width - len(head[0]), _LEAST_WRAPPED), break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield [head if number == 0 else (" " * len(head[0]), ""), (line, style)]


def heat(percent: float) -> str:
    """The style of a share of all."""
    return next(style for least, style in _HEAT if abs(percent) >= least or least == 0.0)
