"""What grew and what shrank between two recordings, function by function, and whether that is significant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import numpy as np

from insitu.convert.formats.folded import folded_counts
from insitu.errors import InsituError
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.symbols.frame import lasting_label
from insitu.valid_text import json_document
from insitu.views.call_tree import call_tree
from insitu.views.functions import Function, function_costs

__all__ = ["Diff", "DiffRow", "Scale", "diff_folded", "diff_stacks", "diff_to_json"]

Scale = Literal["share", "rate", "amount"]
Part = Literal["self", "total"]

_MAKING: Final = ("event", "frequency", "call stacks", "code", "samples", "machine", "kernel")
_ERROR_RATE: Final = 0.05  # chance that a row of two recordings of the same thing is called a change


class DiffRow(NamedTuple):
    """A function before and after, in the diff's scale.

    ``ratio`` is after by before, None for a function that is new. ``z`` is the difference in standard errors
    of sampling; ``noise`` says that it is no larger than chance makes the largest of so many.
    """

    function: str
    module: str
    before: float
    after: float
    delta: float
    ratio: float | None
    z: float
    noise: bool


@dataclass(frozen=True)
class Diff:
    """Rows by falling size of the difference.

    ``scale`` "share" is per cent of each recording's total, "rate" weight per second of recording, "amount"
    the weight itself; weights are in ``unit``. ``samples`` and ``totals`` are of before and after.
    """

    rows: list[DiffRow]
    scale: Scale
    part: Part
    unit: str
    samples: tuple[int, int]
    totals: tuple[int, int]
    notes: list[str] = field(default_factory=list)
    counted: str = "samples"
    is_cpu_time: bool = False


def diff_stacks(
    before: WeightedStacks,
    after: WeightedStacks,
    *,
    scale: Scale = "share",
    value: Value | None = None,
    part: Part = "self",
) -> Diff:
    """Compare weighted stacks by functions' own or total weight; ``value`` defaults to what suits ``after``.

    Functions are the same if their names and their modules' file names are; modules are ignored where one side
    has none. Addresses without a symbol are one function for each module: they change with every build. Waits for
    locks, pipes and sockets are the same in whichever of them: their addresses and numbers change with every run.
    Raises InsituError for two units of weight, or an unknown duration, where the scale needs them.
    """
    value = value or after.preferred
    sides = (before, after)
    units = [stacks.unit_of(value) for stacks in sides]
    notes = []
    if units[0] != units[1]:
        if scale != "share":
            raise InsituError(f"{units[0]} before and {units[1]} after cannot be compared", remedy="compare shares")
        notes.append(f"weights are {units[0]} before and {units[1]} after; only percentages are comparable")
    notes += _recorded_otherwise(before, after)
    for when, stacks in zip(("before", "after"), sides, strict=True):
        if not stacks.total_count:
            raise InsituError(f"no {stacks.counted} {when}: nothing to compare")
        if not stacks.values(value).any():
            raise InsituError(f"{when}: the {stacks.counted} add up to 0 {stacks.unit_of(value)}")
    modules = all(any(frame.module for frame in stacks.frames) for stacks in sides)
    weights = [_by_function(stacks, value, part, modules) for stacks in sides]
    totals = (int(before.values(value).sum()), int(after.values(value).sum()))
    # Whatever is shown, it is the number of samples that says how far chance reaches.
    counts = [
        weight if stacks.counting == value else _by_function(stacks, stacks.counting, part, modules)
        for stacks, weight in zip(sides, weights, strict=True)
    ]
    samples = (before.total_count, after.total_count)
    exposures = _exposures(sides, scale)
    divisors = (totals[0] / 100, totals[1] / 100) if scale == "share" else exposures

    wholes = [
        _Part(total, float(stacks.squares.sum()) if stacks.squares is not None else 0.0)
        for total, stacks in zip(totals, sides, strict=True)
    ]
    known = None
    if value == "weight" and all(stacks.squares is not None for stacks in sides):
        known = [_squares(stacks, part, modules) for stacks in sides]
    functions = list(dict.fromkeys([*weights[1], *weights[0]]))
    # Bonferroni: of many functions that did not change, some would pass a bound meant for one.
    bound = NormalDist().inv_cdf(1 - _ERROR_RATE / (2 * max(len(functions), 1)))
    rows = []
    for function in functions:
        old, new = (side.get(function, 0) / divisor for side, divisor in zip(weights, divisors, strict=True))
        hits = (counts[0].get(function, 0), counts[1].get(function, 0))
        if known is not None:
            each = [_Part(weights[at].get(function, 0), known[at].get(function, 0.0)) for at in (0, 1)]
            z = _z_of_varying(each, wholes, divisors, of_whole=scale == "share")
        elif scale == "share":
            z = _z_of_shares(hits, samples)
        else:
            z = _z_of_rates(hits, exposures)
        ratio = new / old if old else None
        rows.append(DiffRow(function.name, function.module, old, new, new - old, ratio, z, abs(z) <= bound))
    rows.sort(key=lambda row: (-abs(row.delta), -row.after, row.function, row.module))
    return Diff(
        rows,
        scale,
        part,
        units[1],
        samples,
        totals,
        notes,
        counted=after.counted,
        is_cpu_time=all(stacks.is_cpu_time for stacks in sides),
    )


def _recorded_otherwise(before: WeightedStacks, after: WeightedStacks) -> list[str]:
    """What of the recordings' making differs, so that a difference need not be the program's."""
    found = []
    for what, old, new in zip(_MAKING, _making(before), _making(after), strict=True):
        if old and new and old != new:
            found.append(f"recorded differently: {what} {old} before, {new} after")
    return found


def _making(stacks: WeightedStacks) -> tuple[str, ...]:
    """How a recording was made, in the order of _MAKING; empty where it is not known."""
    manifest = stacks.manifest
    options: Mapping[str, object] = {}
    for source in manifest.sources:
        each = source.get("options")
        if isinstance(each, Mapping) and "stacks" in each:
            options = each
    sides = [side for side in ("user", "kernel") if options.get(side)]
    return (
        stacks.event,
        f"{stacks.frequency_hz} Hz" if stacks.frequency_hz else "",
        str(options.get("stacks", "")),
        " and ".join(sides),
        "of the whole machine" if manifest.whole_system else "of processes" if options else "",
        f"{manifest.host} with {manifest.cpus} CPUs" if manifest.host and manifest.cpus else manifest.host,
        manifest.kernel,
    )


def _by_function(stacks: WeightedStacks, value: Value, part: Part, modules: bool) -> dict[Function, int]:
    costs = function_costs(call_tree(stacks, value=value))
    weights = costs.own if part == "self" else costs.total
    sums: dict[Function, int] = {}
    for function, weight in zip(costs.functions, weights.tolist(), strict=True):
        if weight:
            key = Function(lasting_label(function.name), function.module.rpartition("/")[2] if modules else "")
            sums[key] = sums.get(key, 0) + weight
    return sums


def _exposures(sides: tuple[WeightedStacks, WeightedStacks], scale: Scale) -> tuple[float, float]:
    """Seconds of recording for rates, else 1."""
    if scale != "rate":
        return 1.0, 1.0
    seconds = (sides[0].duration_ns / 1e9, sides[1].duration_ns / 1e9)
    if not all(seconds):
        which = "after" if seconds[0] else "before"
        raise InsituError(f"how long the recording {which} took is not known", remedy="compare shares: no --by-time")
    return seconds


def _z_of_shares(hits: tuple[int, int], samples: tuple[int, int]) -> float:
    """Two-proportion z test with the pooled share."""
    pooled = sum(hits) / sum(samples)
    error = math.sqrt(pooled * (1 - pooled) * (1 / samples[0] + 1 / samples[1])) if pooled < 1 else 0.0
    return (hits[1] / samples[1] - hits[0] / samples[0]) / error if error else 0.0


def _z_of_rates(hits: tuple[int, int], exposures: tuple[float, float]) -> float:
    """Two Poisson rates with the pooled rate."""
    pooled = sum(hits) / sum(exposures)
    error = math.sqrt(pooled * (1 / exposures[0] + 1 / exposures[1]))
    return (hits[1] / exposures[1] - hits[0] / exposures[0]) / error if error else 0.0


class _Part(NamedTuple):
    """A sum of weights, and the sum of their squares: its variance, if events come at random (compound Poisson)."""

    weight: int
    squares: float


def _squares(stacks: WeightedStacks, part: Part, modules: bool) -> dict[Function, float]:
    """The sum of squared weights by function."""
    assert stacks.squares is not None
    # Trees add integers: squares are of weights in such a unit that no sum passes 2**53.
    unit = max(float(stacks.weight.sum()) / (1 << 26), 1.0)
    scaled = replace(stacks, weight=np.rint(stacks.squares / unit**2).astype(np.int64))
    sums = _by_function(scaled, "weight", part, modules)
    return {function: square * unit**2 for function, square in sums.items()}


def _z_of_varying(
    parts: Sequence[_Part], wholes: Sequence[_Part], divisors: tuple[float, float], *, of_whole: bool
) -> float:
    """Two sums of weights that differ by event, as shares ``of_whole`` or per second (or as they are)."""
    values, variance = [], 0.0
    for part, whole, divisor in zip(parts, wholes, divisors, strict=True):
        if of_whole:
            share = part.weight / whole.weight
            values.append(share)
            rest = max(whole.squares - part.squares, 0.0)
            variance += (part.squares * (1 - share) ** 2 + rest * share**2) / whole.weight**2
        else:
            values.append(part.weight / divisor)
            variance += part.squares / divisor**2
    return (values[1] - values[0]) / math.sqrt(variance) if variance else 0.0


def diff_folded(
    before: WeightedStacks, after: WeightedStacks, *, normalise: bool = True, value: Value | None = None
) -> str:
    """Lines "stack before after" as difffolded.pl writes them; ``normalise`` scales before to after's total."""
    value = value or after.preferred
    old, new = (folded_counts(_lasting(stacks), value=value) for stacks in (before, after))
    factors = (sum(new.values()), sum(old.values())) if normalise else (1, 1)
    return "".join(
        [f"{stack} {_scaled(old, stack, factors)} {new.get(stack, 0)}\n" for stack in sorted({*old, *new})]
    )


def _lasting(stacks: WeightedStacks) -> WeightedStacks:
    """Stacks whose waits are called as in every run."""
    return replace(stacks, frames=[frame._replace(function=lasting_label(frame.function)) for frame in stacks.frames])


def _scaled(counts: Mapping[str, int], stack: str, factors: tuple[int, int]) -> int:
    count = counts.get(stack, 0)
    return count * factors[0] // factors[1] if count else 0


def diff_to_json(diff: Diff, *, limit: int = 0) -> str:
    """The diff as one JSON document; docs/diff.md describes its fields. ``limit`` 0 keeps all rows."""
    document = {
        "format": "insitu-diff-1",
        "scale": diff.scale,
        "part": diff.part,
        "unit": diff.unit,
        "samples": {"before": diff.samples[0], "after": diff.samples[1]},
        "total": {"before": diff.totals[0], "after": diff.totals[1]},
        "notes": diff.notes,
        "functions": [row._asdict() for row in diff.rows[: limit or None]],
    }
    return json_document(document)
