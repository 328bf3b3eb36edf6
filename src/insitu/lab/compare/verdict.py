"""Whether two sets of timings differ: a permutation test, a bootstrap interval, and silence within noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MIN_EFFECT", "SIGNIFICANCE", "Verdict", "judge"]

SIGNIFICANCE: Final = 0.002
"""At most this probability that chance alone makes identical sides look as different: one false alarm in 500."""

MIN_EFFECT: Final = 0.03
"""Differences of less than three per cent are not worth a person's time, however certain."""

_PERMUTATIONS: Final = 20_000
_RESAMPLES: Final = 4_000
_MIN_RUNS: Final = 7  # with fewer, even sides wholly apart (2 of 924 arrangements) are no rarer than SIGNIFICANCE

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """How the second side compares with the first: ``ratio`` of medians, second to first, and its 95 % interval.

    ``probability`` is that of a difference at least as large when both sides are the same. ``differs`` says whether
    the difference is beyond noise; ``enough_runs`` whether there were runs enough to tell.
    """

    ratio: float
    low: float
    high: float
    probability: float
    differs: bool
    enough_runs: bool

    @property
    def margin(self) -> float:
        """Half the interval's width: the +- behind the ratio."""
        return (self.high - self.low) / 2


def judge(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Verdict:
    """Compare positive timings of two sides. The same timings and seed give the same verdict."""
    a, b = np.log(np.asarray(first, np.float64)), np.log(np.asarray(second, np.float64))
    random = np.random.default_rng(seed)
    ratios = np.exp(_resampled_medians(b, random) - _resampled_medians(a, random))
    low, high = (float(bound) for bound in np.percentile(ratios, [2.5, 97.5]))
    ratio = float(np.exp(np.median(b) - np.median(a)))
    probability = _chance(a, b, random)
    enough = min(len(a), len(b)) >= _MIN_RUNS
    certain = enough and probability < SIGNIFICANCE and not low <= 1 <= high
    # Half or twice as fast are equally far from 1.
    return Verdict(ratio, low, high, probability, certain and max(ratio, 1 / ratio) >= 1 + MIN_EFFECT, enough)


def _chance(a: F64, b: F64, random: np.random.Generator) -> float:
    """How often a random division of all runs into two sides separates their mean ranks as far as the real one."""
    ranks = np.argsort(np.argsort(np.concatenate([a, b]), kind="stable"), kind="stable").astype(np.float64)
    shuffled = random.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)
    distances = np.abs(shuffled[:, : len(a)].mean(axis=1) - shuffled[:, len(a) :].mean(axis=1))
    seen = abs(ranks[: len(a)].mean() - ranks[len(a) :].mean())
    return float((1 + np.count_nonzero(distances >= seen - 1e-9)) / (1 + _PERMUTATIONS))


def _resampled_medians(logs: F64, random: np.random.Generator) -> F64:
    medians: F64 = np.median(random.choice(logs, (_RESAMPLES, len(logs))), axis=1)
    return medians
