"""What can be done here, as a table for people: features by purpose, and below them what to do about the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from insitu.capabilities import Feature, State

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["plain", "rendered", "summary"]

_TITLES: Final = {
    "profile": "profile: where does the time go?",
    "trace": "trace: what happens, when, and why?",
    "inspect": "inspect: what is in there right now?",
    "lab": "lab: other kernels, in guests",
}
_MARKS: Final = {State.YES: ("✓", "green"), State.PARTLY: ("~", "yellow"), State.NO: ("✗", "red")}


def plain(features: Sequence[Feature]) -> str:
    """Lines for a pipe: "group  state  name  reason", aligned by spaces; remedies follow after " -- "."""
    width = max((len(feature.name) for feature in features), default=0)
    lines = []
    for feature in features:
        result = feature.result
        remedy = f" -- {result.remedy}" if result.remedy else ""
        lines.append(
            f"{feature.group:<8} {result.state:<7} {feature.name:<{width}}  {result.reason}{remedy}".rstrip()
        )
    return "\n".join([*lines, summary(features)])


def rendered(features: Sequence[Feature]) -> "RenderableType":
    """One panel for each purpose, for a terminal of any width."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    # Equal columns in all panels, whatever they hold.
    width = max((len(feature.name) for feature in features), default=0)
    panels: list[RenderableType] = []
    for group in dict.fromkeys(feature.group for feature in features):
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=1)
        table.add_column(width=width, no_wrap=True)
        table.add_column(ratio=1)
        for feature in features:
            if feature.group == group:
                result = feature.result
                mark, colour = _MARKS[result.state]
                detail = Text(result.reason, style="default" if result.state is State.YES else colour)
                if result.remedy:
                    detail.append(f"\n→ {result.remedy}" if result.reason else f"→ {result.remedy}", style="cyan")
                table.add_row(Text(mark, style=f"bold {colour}"), Text(feature.name), detail)
        title = Text(_TITLES.get(group, group), style="bold")
        panels.append(Panel(table, title=title, title_align="left", border_style="dim"))
    return Group(*panels, Text(summary(features)))


def summary(features: Sequence[Feature]) -> str:
    """How many of the features there are: one line."""
    count = {state: sum(feature.result.state is state for feature in features) for state in State}
    return f"{count[State.YES]} of {len(features)} there, {count[State.PARTLY]} in part, {count[State.NO]} missing"
