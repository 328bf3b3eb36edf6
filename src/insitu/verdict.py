"""Whether two sets of measurements differ: a permutation test, a bootstrap interval and a minimum effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

__all__ = ["MIN_EFFECT", "SIGNIFICANCE", "Verdict", "judge", "turns"]

SIGNIFICANCE: Final = 0.002
"""The significance level: identical sides are reported as different at most once in 500 comparisons."""

MIN_EFFECT: Final = 0.03
"""Smaller differences of the medians are not reported, however significant."""

_PERMUTATIONS: Final = 20_000
_RESAMPLES: Final = 4_000
_MIN_RUNS: Final = 7  # with 6, even two sides without overlap (2 of 924 permutations) have p > SIGNIFICANCE


@dataclass(frozen=True)
class Verdict:
    """The second side against the first: ``ratio`` of medians, second to first, and its 95 % interval.

    ``probability`` is the p value: that of a difference at least as large between identical sides. ``differs`` says
    whether the difference is significant and large enough; ``enough_runs`` whether it could have been.
    """

    ratio: float
    low: float
    high: float
    probability: float
    differs: bool
    enough_runs: bool

    @property
    def alike(self) -> bool:
        """Whether it is known that the sides differ by less than MIN_EFFECT."""
        return self.enough_runs and max(self.high, 1 / self.low) < 1 + MIN_EFFECT

    @property
    def margin(self) -> float:
        """Half the interval's width: the +- of the ratio."""
        return (self.high - self.low) / 2


def turns(runs: int) -> Iterator[tuple[int, int]]:
    """The order in which two sides run: the number of the run, from 1, and the side, 0 or 1.

    The first one alternates, so that neither always runs after the other, whose data is in the caches.
    """
    for number in range(1, runs + 1):
        for side in (0, 1) if number % 2 else (1, 0):
            yield number, side


def judge(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Verdict:
    """Compare two sides' measurements, all above 0. The same ones and the same seed give the same verdict."""
    import numpy as np  # which would make a process that starts programs larger

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
    """How often a random permutation of the runs separates the sides' mean ranks as far as the real one does."""
    import numpy as np  # which would make a process that starts programs larger

    ranks = np.argsort(np.argsort(np.concatenate([a, b]), kind="stable"), kind="stable").astype(np.float64)
    shuffled = random.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)
    distances = np.abs(shuffled[:, : len(a)].mean(axis=1) - shuffled[:, len(a) :].mean(axis=1))
    seen = abs(ranks[: len(a)].mean() - ranks[len(a) :].mean())
    return float((1 + np.count_nonzero(distances >= seen - 1e-9)) / (1 + _PERMUTATIONS))


def _resampled_medians(logs: F64, random: np.random.Generator) -> F64:
    import numpy as np

    medians: F64 = np.median(random.choice(logs, (_RESAMPLES, len(logs))), axis=1)
    return medians
