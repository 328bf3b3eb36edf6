"""A verdict on two commands or kernels, as a sentence."""

from insitu.verdict import MIN_EFFECT, Verdict

__all__ = ["verdict_words"]


def verdict_words(verdict: Verdict, first: str, second: str, runs: int, *, option: str, on: str = "") -> str:
    """The verdict on the times of ``first`` and ``second``, ``runs`` of each, which ``option`` is the number of.

    ``on`` says on what, such as " on this workload".
    """
    if not verdict.enough_runs:
        return f"too few runs to compare {second} with {first}: {option} 7 or more"
    if verdict.alike:
        return f"no difference of {MIN_EFFECT:.0%} or more between {first} and {second}{on}"
    if not verdict.differs:
        least, most = (f"{ratio - 1:+.0%}" for ratio in (verdict.low, verdict.high))
        return (
            f"cannot tell {first} from {second}{on}: the latter takes {least} to {most} time"
            f" (95 % interval); more runs ({option} {2 * runs}) narrow that"
        )
    slower = verdict.ratio >= 1
    # Said the way that gives a number above 1; the margin goes along.
    ratio = verdict.ratio if slower else 1 / verdict.ratio
    margin = verdict.margin if slower else (1 / verdict.low - 1 / verdict.high) / 2
    return f"{second} is {ratio:.2f} ± {margin:.2f} times {'slower' if slower else 'faster'}{on}"
