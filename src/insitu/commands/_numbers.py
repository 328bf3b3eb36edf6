"""Numbers as options take them: what they must not be is refused by the parser."""

import argparse

__all__ = ["count", "percent"]


def count(text: str) -> int:
    """A number of things: 0 or more."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no count (0, 1, 2, ...)")
    return number


def percent(text: str) -> float:
    """A share of all, from 0 to 100."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not in 0 to 100 per cent")
    return number
