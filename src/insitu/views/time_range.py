"""A range of time as users write it: seconds since the first sample."""

import re

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.profile import Profile

__all__ = ["time_range"]

_RANGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)-(\d{1,9}(?:\.\d{1,9})?)")


def time_range(profile: Profile, text: str) -> NDArray[np.bool_]:
    """Which samples of ``profile`` fall into ``text``, "FROM-TO" in seconds since the first sample, TO excluded.

    Raises InsituError where ``text`` is no range, or no sample falls into it.
    """
    match = _RANGE.fullmatch(text)
    if not match or float(match[1]) >= float(match[2]):
        raise InsituError(f"{text!r} is no range of time", remedy="--range 2.5-4 means seconds 2.5 to 4", status=2)
    since = profile.ts_ns - profile.ts_ns.min(initial=np.iinfo(np.int64).max)
    low, high = (round(float(bound) * 1e9) for bound in match.groups())
    mask: NDArray[np.bool_] = (since >= low) & (since < high)
    if not mask.any():
        length = int(since.max(initial=0)) / 1e9
        raise InsituError(f"no samples in seconds {text}", remedy=f"the last is {length:.3f} s after the first")
    return mask
