"""Two commands measured by turns: the verdict first, then the times as dots, and every event's figures."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from insitu.record.counters import count_value
from insitu.record.sources.counting import Reading
from insitu.valid_text import json_document
from insitu.verdict import Verdict, judge
from insitu.views.counts.figures import rows_of, unit_of
from insitu.views.counts.text import reason_lines
from insitu.views.table import Column, Table
from insitu.views.terminal import Block
from insitu.views.verdict import verdict_words

__all__ = ["Measured", "comparison_blocks", "comparison_json"]

_STRIP: Final = 60  # columns


class Measured(NamedTuple):
    """A command's runs: what was counted, and user and system time in seconds."""

    command: str
    readings: list[Reading]
    times: list[tuple[float, float]]


class _Measure(NamedTuple):
    """One quantity of both sides, a value for each run; ``verdict`` is None where a value is 0."""

    name: str
    unit: str
    first: list[float]
    second: list[float]
    verdict: Verdict | None


def comparison_blocks(first: Measured, second: Measured) -> Iterator[Block]:
    """The report."""
    measures = _measures(first, second)
    elapsed = measures[0]
    runs = min(len(elapsed.first), len(elapsed.second))
    yield []
    yield [(_text(measures), "bold")]
    yield []
    yield [(f" A: {first.command}", "")]
    yield [(f" B: {second.command}", "")]
    yield [(f" {runs} runs of each, taken by turns", "dim")]
    yield []
    longest = max(elapsed.first + elapsed.second)
    for name, values in (("A", elapsed.first), ("B", elapsed.second)):
        yield [(f" {name} {_strip(values, longest)}", "")]
    axis = f"0{'elapsed':^{_STRIP - 2}}{longest:.3g} s"
    yield [(f"   {axis}", "dim")]
    yield []
    columns = [
        Column("", "left"),
        *(Column(title) for title in ("A", "B", "B/A", "95 % interval")),
        Column("", "left"),
    ]
    yield Table(columns, [[(cell, "") for cell in _cells(each)] for each in measures])
    yield from ([(line, "")] for line in reason_lines(rows_of([first.readings[0].counts], 1.0)))


def comparison_json(first: Measured, second: Measured) -> str:
    """Everything that was measured, and the verdicts."""
    measures = _measures(first, second)
    document: dict[str, Any] = {
        "text": _text(measures),
        "commands": [first.command, second.command],
        "measures": [
            each._asdict() | {"verdict": asdict(each.verdict) if each.verdict else None} for each in measures
        ],
    }
    return json_document(document)


def _text(measures: Sequence[_Measure]) -> str:
    elapsed = measures[0]
    assert elapsed.verdict is not None, "elapsed times are above 0"
    text = verdict_words(elapsed.verdict, "A", "B", min(len(elapsed.first), len(elapsed.second)), option="-r")
    others = [each.name for each in measures if each.verdict and each.verdict.differs]
    if elapsed.verdict.differs or not others:
        return text
    return f"{text}. {', '.join(others)}: {'this differs' if len(others) == 1 else 'these differ'}"


def _measures(first: Measured, second: Measured) -> list[_Measure]:
    """Elapsed, user and system time, and each event that was counted in every run of both."""
    sides = first, second
    found = [_measure("elapsed", "s", *([each.elapsed_s for each in side.readings] for side in sides))]
    for at, name in enumerate(("user", "sys")):
        found.append(_measure(name, "s", *([times[at] for times in side.times] for side in sides)))
    for number, count in enumerate(first.readings[0].counts):
        unit, scale = unit_of(count.counted.event)
        counted = [
            [value * scale for each in side.readings if (value := count_value(each.counts[number])) is not None]
            for side in sides
        ]
        if [len(values) for values in counted] == [len(side.readings) for side in sides]:
            found.append(_measure(count.counted.event.name, unit, *counted))
    return found


def _measure(name: str, unit: str, first: list[float], second: list[float]) -> _Measure:
    return _Measure(name, unit, first, second, judge(first, second) if min(first + second) > 0 else None)


def _cells(measure: _Measure) -> tuple[str, ...]:
    verdict = measure.verdict
    sides = (_spread(values, measure.unit) for values in (measure.first, measure.second))
    if verdict is None:
        return (measure.name, *sides, "", "", "")
    said = "differs" if verdict.differs else "alike" if verdict.alike else ""
    ratio, low, high = (f"{each:.{2 if each >= 0.1 else 4}f}" for each in (verdict.ratio, verdict.low, verdict.high))
    return (measure.name, *sides, ratio, f"{low} to {high}", said)


def _spread(values: Sequence[float], unit: str) -> str:
    middle = statistics.median(values)
    digits = {"s": 4, "": 0}.get(unit, 2)
    return f"{middle:,.{digits}f} {unit}".rstrip()


def _strip(values: Sequence[float], longest: float) -> str:
    """A mark for each run on an axis from 0, denser where runs coincide; | is the median."""
    columns = [0] * _STRIP
    for value in values:
        columns[min(int(value / longest * _STRIP), _STRIP - 1)] += 1
    marks = [" .:#"[min(count, 3)] for count in columns]
    marks[min(int(statistics.median(values) / longest * _STRIP), _STRIP - 1)] = "|"
    return "".join(marks)
