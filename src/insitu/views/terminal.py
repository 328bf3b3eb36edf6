"""Lines of styled text and tables: colours fitted to a terminal's width, whole and plain in a pipe.

A view yields lines of (text, style) pieces, and tables; only writing to a terminal imports rich.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from insitu.terminal_text import UNENCODABLE, TerminalStream, columns, is_plain, printable
from insitu.views.table import Line, Table, plain_lines, rich_table, shorten

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Block", "Line", "Screen", "heat", "shorten"]

Block = Line | Table

# Share of all in per cent, from here on -> rich style.
_HEAT: Final = ((20.0, "bold red"), (5.0, "red"), (1.0, "yellow"), (0.2, ""), (0.0, "dim"))


@dataclass(frozen=True)
class Screen:
    """Where lines go: ``width`` is None when nothing may be shortened, as in a pipe or a file."""

    out: IO[str]
    width: int | None = None

    @classmethod
    def of(cls, out: IO[str]) -> "Screen":
        """The terminal that ``out`` is, or plain text where it is not a terminal (or TERM is "dumb" or unset)."""
        return cls(out, None if is_plain(out) else columns(out))

    def write(self, blocks: Iterable[Block]) -> None:
        """Write lines, each on a line of its own however long it is, and tables; all texts are escaped."""
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
                console.print(rich_table(block, self.width))
            else:
                _print_line(console, block, self.width)
            write(console.end_capture())

    def _console(self) -> "Console":
        from rich.console import Console

        # With any height given too, rich does not read COLUMNS, which may have too many digits for it.
        return Console(file=self.out, width=self.width, height=25, force_terminal=True, highlight=False, markup=False)


def _print_line(console: "Console", line: Line, width: int) -> None:
    from rich.text import Text

    text = Text.assemble(*((printable(text), style) for text, style in line))
    text.truncate(width, overflow="ellipsis")
    console.print(text, no_wrap=True, overflow="ellipsis", crop=True)


def heat(percent: float) -> str:
    """The style of a share of all."""
    return next(style for least, style in _HEAT if abs(percent) >= least or least == 0.0)
