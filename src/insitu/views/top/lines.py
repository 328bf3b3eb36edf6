"""A textual widget that shows lines of styled text: what is on the screen is painted by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from insitu.views.table import Line

__all__ = ["Lines"]


@lru_cache(256)
def _style(text: str) -> Style:
    return Style.parse(text)


class Lines(Widget):
    """Lines from the top; what is too long is cut. Texts are printable already."""

    DEFAULT_CSS = "Lines { background: transparent; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Line] = ()

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self.lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines; only those that differ are painted."""
        before, self.lines = self.lines, lines
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y in range(min(self.size.height, max(len(before), len(lines))))
            if y >= len(before) or y >= len(lines) or before[y] != lines[y]
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Returns a line as textual wants it."""
        width = self.size.width
        line = self.lines[y] if y < len(self.lines) else []
        return Strip([Segment(text, _style(style)) for text, style in line]).adjust_cell_length(width)
