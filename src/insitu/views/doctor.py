"""What can be done here, as a table for people: features by purpose, and below them what to do about the rest."""

from collections.abc import Iterator, Sequence
from typing import Final

from insitu.capabilities import Feature, State
from insitu.views.table import Column, Table
from insitu.views.terminal import Block

__all__ = ["plain", "rendered", "summary"]

_TITLES: Final = {
    "commands": "commands: what may this user run?",
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


def rendered(features: Sequence[Feature]) -> Iterator[Block]:
    """A table for each purpose, for a terminal of any width."""
    # Equal columns in all tables, whatever they hold.
    width = max((len(feature.name) for feature in features), default=0)
    columns = [Column("", "left"), Column("", "left"), Column("", "left", fold=True)]
    for group in dict.fromkeys(feature.group for feature in features):
        yield [(_TITLES.get(group, group), "bold cyan")]
        rows = []
        for feature in features:
            if feature.group == group:
                result = feature.result
                mark, colour = _MARKS[result.state]
                rows.append([(mark, f"bold {colour}"), (feature.name.ljust(width), ""), (result.reason, colour)])
                if result.state is State.YES:
                    rows[-1][2] = (result.reason, "")
                if result.remedy:
                    remedy = (f"→ {result.remedy}", "cyan")
                    if result.reason:
                        rows.append([("", ""), ("", ""), remedy])
                    else:
                        rows[-1][2] = remedy
        yield Table(columns, rows, head=False, indent=2)
        yield []
    yield [(summary(features), "bold")]


def summary(features: Sequence[Feature]) -> str:
    """How many of the features there are: one line."""
    count = {state: sum(feature.result.state is state for feature in features) for state in State}
    return (
        f"{count[State.YES]} of {len(features)} available, {count[State.PARTLY]} in part, {count[State.NO]} missing"
    )
