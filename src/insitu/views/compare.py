"""The kernel comparison's report: the verdict first, then what it rests on; as text, as one HTML page, as JSON."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, Final, NamedTuple

from insitu.lab.compare.compare import Comparison, Side, kernel_seconds
from insitu.lab.compare.measure import Run
from insitu.plurals import counted
from insitu.valid_text import json_document
from insitu.views.table import Column, Table, shorten
from insitu.views.terminal import Block
from insitu.views.verdict import verdict_words

__all__ = ["compare_blocks", "compare_html", "compare_json", "verdict_text"]

_SETTINGS_SHOWN: Final = 15
_CALLS_SHOWN: Final = 12
_ROWS_SHOWN: Final = 25
_STRIP_WIDTH, _STRIP_LEFT = 760, 150
_FLAME_BUNDLE: Final = "flame"


class Section(NamedTuple):
    """A table of the report: its title, the titles of its columns (the first names rows) and its rows."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def verdict_text(comparison: Comparison) -> str:
    """The verdict in one sentence."""
    first, second = comparison.first, comparison.second
    if comparison.busy and comparison.verdict.enough_runs:
        steal = max(statistics.median(run.vcpu_steal for run in side.runs) for side in (first, second))
        return (
            f"cannot tell {first.name} from {second.name}: host contention could explain the difference"
            f" (vCPU steal {steal:.2f} s per run)"
        )
    runs = min(len(first.runs), len(second.runs))
    line = verdict_words(comparison.verdict, first.name, second.name, runs, on=" on this workload", option="-n")
    if comparison.parts:
        part = comparison.parts[0]
        line += f"; {100 * min(part.share, 1):.0f} % of the difference is in {part.name}"
    return line


def compare_blocks(comparison: Comparison) -> Iterator[Block]:
    """The report for a terminal or a pipe."""
    yield [(verdict_text(comparison), "bold")]
    for line in _conditions(comparison):
        yield [(line, "dim")]
    for section in _sections(comparison):
        columns = [Column(title, "left" if at == 0 else "right") for at, title in enumerate(section.head)]
        yield []
        yield [(section.title, "bold cyan")]
        yield Table(columns, [[(cell, "") for cell in row] for row in section.rows])


def compare_html(comparison: Comparison) -> str:
    """The report as one self-contained page, with the differential flame graph when both sides were sampled."""
    from insitu.views.page import document_page

    verdict, flame = verdict_text(comparison), _flame(comparison)
    return document_page(
        "compare.html",
        ("compare", _FLAME_BUNDLE) if flame else ("compare",),
        title=verdict,
        verdict=verdict,
        workload=" ".join(comparison.workload),
        conditions=_conditions(comparison),
        names=(comparison.first.name, comparison.second.name),
        strips=_strips(comparison),
        sections=list(_sections(comparison, everything=True)),
        most=_ROWS_SHOWN,
        flame=flame,
    )


def _conditions(comparison: Comparison) -> list[str]:
    """How it was measured, a line each."""
    first, second, found = comparison.first, comparison.second, comparison.conditions
    counts = sorted({len(first.runs), len(second.runs)})
    lines = [f"{' and '.join(map(str, counts))} runs of each, taken by turns"]
    if found is not None:
        machine = f"guests of {counted(found.cpus, 'CPU')} and {found.memory}"
        if found.emulated:
            machine += ", emulated (no KVM): slower than a real CPU, and not everything equally so"
        else:
            machine += ", run by KVM"
        lines += [machine, f"on {found.host}, {found.host_cpus} CPUs, at {found.date}"]
    if any(run.vcpu_steal for side in (first, second) for run in side.runs):
        lines.append("vCPU steal: time for which the host ran other work on the guest's CPUs (host contention)")
    return lines


def _strips(comparison: Comparison) -> dict[str, Any] | None:
    """The shapes of the picture of wall times: a dot for each run, the sides below each other on one axis from 0."""
    sides = [side for side in (comparison.first, comparison.second) if side.runs]
    longest = max((run.wall for side in sides for run in side.runs), default=0)
    if not longest:
        return None
    longest_x = _STRIP_WIDTH - 60
    shown = []
    for number, side in enumerate(sides):
        at = [_STRIP_LEFT + (longest_x - _STRIP_LEFT) * run.wall / longest for run in side.runs]
        shown.append(
            {
                "name": shorten(side.name, 20),
                "number": number,
                "y": 18 + 30 * number,
                "median": f"{statistics.median(at):.1f}",
                "dots": [
                    {"x": f"{x:.1f}", "label": f"{run.wall:.4f} s"} for x, run in zip(at, side.runs, strict=True)
                ],
            }
        )
    return {
        "width": _STRIP_WIDTH,
        "height": 30 + 30 * len(sides),
        "left": _STRIP_LEFT,
        "right": _STRIP_WIDTH - 50,
        "longest_x": longest_x,
        "longest": f"{longest:.3g} s",
        "sides": shown,
    }


def compare_json(comparison: Comparison) -> str:
    """Everything that was measured, and the verdict."""
    document: dict[str, Any] = asdict(comparison)
    document["text"] = verdict_text(comparison)
    return json_document(document)


def _sections(comparison: Comparison, everything: bool = False) -> Iterator[Section]:
    """The tables of the report; those without rows are left out."""
    first, second = comparison.first, comparison.second
    head = ("", first.name, second.name)
    parts = [(part.name, f"{part.seconds:+.4f}", f"{part.share:.0%}") for part in comparison.parts]
    functions, calls = _functions(first, second), _calls(first, second)
    settings = [(each.setting, each.first or "-", each.second or "-") for each in comparison.settings]
    title = "settings that differ, the likely most relevant first"
    if not everything:
        functions, calls = functions[:_CALLS_SHOWN], calls[:_CALLS_SHOWN]
        more = len(settings) - _SETTINGS_SHOWN
        settings = settings[:_SETTINGS_SHOWN]
        if more > 0:
            title += f" ({more} more in the HTML and JSON reports)"
    sections = (
        Section("per run: median (lowest to highest)", head, list(_runs(first, second))),
        Section("parts of the difference", ("", "s per run", "share"), parts),
        Section("kernel functions, self time in ms per run", head, functions),
        Section("system calls of one run: calls / ms", head, calls),
        Section(title, head, settings),
    )
    yield from (section for section in sections if section.rows)


def _runs(first: Side, second: Side) -> Iterator[tuple[str, ...]]:
    for column in fields(Run):
        seconds = column.metadata.get("unit") == "s"
        name = column.name.replace("_", " ").replace("vcpu", "vCPU")
        yield (name, *(_spread(side, column.name, seconds) for side in (first, second)))


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
