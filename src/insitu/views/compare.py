"""The kernel swap's report: a plain verdict first, then what it rests on; as text, as one HTML page, as JSON."""

import html
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, Final

from insitu.lab.compare.compare import Comparison, Side, kernel_seconds
from insitu.lab.compare.measure import Run

__all__ = ["compare_html", "compare_json", "compare_text", "verdict_text"]

_SETTINGS_SHOWN: Final = 15
_CALLS_SHOWN: Final = 12
_ROWS_SHOWN: Final = 25
_STRIP_WIDTH, _STRIP_LEFT = 760, 150


def verdict_text(comparison: Comparison) -> str:
    """The verdict as a person would say it."""
    verdict, first, second = comparison.verdict, comparison.first, comparison.second
    if not verdict.enough_runs:
        return f"too few runs to tell {second.name} from {first.name}; take -n 7 or more"
    if comparison.busy:
        wait = max(statistics.median(run.vcpu_steal for run in side.runs) for side in (first, second))
        return (
            f"this machine was too busy to tell {second.name} from {first.name}: "
            f"the guests waited {wait:.2f} s per run for one of its CPUs"
        )
    if not verdict.differs:
        return f"no difference beyond noise between {first.name} and {second.name} on this workload"
    slower = verdict.ratio >= 1
    # Said the way that gives a number above 1; the margin goes along.
    ratio = verdict.ratio if slower else 1 / verdict.ratio
    margin = verdict.margin if slower else (1 / verdict.low - 1 / verdict.high) / 2
    line = f"{second.name} is {ratio:.2f} times {'slower' if slower else 'faster'} on this workload, +- {margin:.2f}"
    if comparison.parts:
        part = comparison.parts[0]
        line += f"; {min(part.share, 1):.0%} of the difference is in {part.name}".replace("%", " per cent")
    return line


def compare_text(comparison: Comparison) -> str:
    """The report for a terminal or a pipe."""
    lines = [verdict_text(comparison), ""]
    for title, rows in _sections(comparison):
        if not rows:
            continue
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines.append(title)
        for row in rows:
            cells = [
                cell.ljust(width) if n == 0 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def compare_html(comparison: Comparison) -> str:
    """The report as one self-contained page, with the differential flame graph when both sides were sampled."""
    parts = [
        f"<h1>{html.escape(verdict_text(comparison))}</h1>",
        f"<p><code>{html.escape(' '.join(comparison.workload))}</code></p>",
        _strips(comparison),
    ]
    parts += [_table(title, rows) for title, rows in _sections(comparison, everything=True) if rows]
    flame = _flame(comparison)
    if flame:
        parts.append(f'<h2>where the CPU time went</h2><iframe srcdoc="{html.escape(flame)}"></iframe>')
    return _PAGE.replace("BODY", "\n".join(parts))


def _table(title: str, rows: list[tuple[str, ...]]) -> str:
    """A table; what is beyond its first rows is folded away."""
    head, *body = (
        f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row)}</tr>"
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)
    )
    shown, folded = body[:_ROWS_SHOWN], body[_ROWS_SHOWN:]
    table = f"<h2>{html.escape(title)}</h2><table>{head}{''.join(shown)}</table>"
    if folded:
        table += f"<details><summary>{len(folded)} more</summary><table>{head}{''.join(folded)}</table></details>"
    return table


def _strips(comparison: Comparison) -> str:
    """Each run's wall time as a dot, the sides below each other on one axis from zero, medians as lines."""
    sides = [side for side in (comparison.first, comparison.second) if side.runs]
    longest = max((run.wall for side in sides for run in side.runs), default=0)
    if not longest:
        return ""
    shapes = []
    for number, side in enumerate(sides):
        y, walls = 18 + 30 * number, [run.wall for run in side.runs]
        at = [_STRIP_LEFT + (_STRIP_WIDTH - _STRIP_LEFT - 60) * wall / longest for wall in walls]
        middle = statistics.median(at)
        shapes.append(f'<text x="0" y="{y + 5}">{html.escape(side.name[:18])}</text>')
        shapes.append(f'<line class="axis" x1="{_STRIP_LEFT}" x2="{_STRIP_WIDTH - 50}" y1="{y}" y2="{y}"/>')
        shapes += [
            f'<circle class="s{number}" cx="{x:.1f}" cy="{y}" r="5"><title>{wall:.4f} s</title></circle>'
            for x, wall in zip(at, walls, strict=True)
        ]
        shapes.append(f'<line class="median" x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 11}" y2="{y + 11}"/>')
    bottom = 18 + 30 * len(sides)
    shapes.append(f'<text x="{_STRIP_LEFT}" y="{bottom + 5}" text-anchor="middle">0</text>')
    shapes.append(f'<text x="{_STRIP_WIDTH - 60}" y="{bottom + 5}" text-anchor="middle">{longest:.3g} s</text>')
    size = f'viewBox="0 0 {_STRIP_WIDTH} {bottom + 12}" width="{_STRIP_WIDTH}"'
    return f'<svg {size} role="img" aria-label="wall time of each run">{"".join(shapes)}</svg>'


def compare_json(comparison: Comparison) -> str:
    """Everything that was measured, and the verdict."""
    document: dict[str, Any] = asdict(comparison)
    document["text"] = verdict_text(comparison)
    return json.dumps(document, indent=1)


def _sections(comparison: Comparison, everything: bool = False) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Titles and tables; a table's first row is its head."""
    first, second = comparison.first, comparison.second
    head = (first.name, second.name)
    yield "per run: median (lowest to highest)", [("", *head), *_runs(first, second)]
    if comparison.parts:
        yield (
            "what the difference is made of",
            [
                ("", "s per run", "share"),
                *((part.name, f"{part.seconds:+.4f}", f"{part.share:.0%}") for part in comparison.parts),
            ],
        )
    functions = _functions(first, second)
    yield (
        "kernel functions: CPU time of their own, ms per run",
        [("", *head), *(functions if everything else functions[:_CALLS_SHOWN])] if functions else [],
    )
    calls = _calls(first, second)
    yield (
        "system calls of one run: calls and ms",
        [("", *head), *(calls if everything else calls[:_CALLS_SHOWN])] if calls else [],
    )
    settings = comparison.settings if everything else comparison.settings[:_SETTINGS_SHOWN]
    rows = [(d.setting, d.first or "-", d.second or "-") for d in settings]
    more = len(comparison.settings) - len(settings)
    title = "settings that differ, the likely most relevant first" + (
        f" ({more} more in the HTML and JSON reports)" if more else ""
    )
    yield title, [("", *head), *rows] if rows else []


def _runs(first: Side, second: Side) -> Iterator[tuple[str, ...]]:
    for column in fields(Run):
        seconds = column.metadata.get("unit") == "s"
        yield (column.name.replace("_", " "), *(_spread(side, column.name, seconds) for side in (first, second)))


def _spread(side: Side, column: str, seconds: bool) -> str:
    values = [getattr(run, column) for run in side.runs]
    if not values:
        return ""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.3f} s ({low:.3f} to {high:.3f})" if seconds else f"{middle:.0f} ({low} to {high})"


def _calls(first: Side, second: Side) -> list[tuple[str, ...]]:
    sides = [{call.name: call for call in side.calls} for side in (first, second)]
    names = {*sides[0], *sides[1]}
    longest = sorted(names, key=lambda name: -max(side[name].seconds for side in sides if name in side))
    return [
        (name, *(f"{side[name].calls} / {side[name].seconds * 1e3:.1f}" if name in side else "-" for side in sides))
        for name in longest
    ]


def _functions(first: Side, second: Side) -> list[tuple[str, ...]]:
    sides = [kernel_seconds(side) for side in (first, second)]
    longest = sorted({*sides[0], *sides[1]}, key=lambda name: -max(side.get(name, 0) for side in sides))
    return [(name, *(f"{side[name] * 1e3:.1f}" if name in side else "-" for side in sides)) for name in longest]


def _flame(comparison: Comparison) -> str:
    if not (comparison.first.folded and comparison.second.folded):
        return ""
    from insitu.convert.open import folded_stacks
    from insitu.views.call_tree import call_tree
    from insitu.views.flamegraph import diff_flame_html

    trees = [call_tree(folded_stacks(side.folded, side.name)) for side in (comparison.first, comparison.second)]
    return diff_flame_html(trees[0], trees[1], title=f"{comparison.first.name} and {comparison.second.name}")


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>insitu lab compare</title>
<style>
:root { color-scheme: light dark; --first: #3b76af; --second: #d1702f; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem 1.2rem .15rem 0; text-align: right; max-width: 26rem; overflow-wrap: anywhere; }
td:first-child { text-align: left; min-width: 12rem; } tr { border-bottom: 1px solid #8884; }
summary { cursor: pointer; padding: .4rem 0; color: #888; }
svg { max-width: 100%; } svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.axis { stroke: #8886; } .median { stroke: currentColor; stroke-width: 2; }
.s0 { fill: var(--first); } .s1 { fill: var(--second); } circle { fill-opacity: .65; }
iframe { width: 100%; height: 42rem; border: 1px solid #8884; }
</style></head><body>
BODY
</body></html>
"""
