"""What the subcommands of `insitu lab` share: how they are declared, numbers as options, progress messages."""

import argparse
import math
import sys

__all__ = ["Subcommands", "positive", "report", "seconds"]

_MAX_SECONDS = 10**9


class Subcommands:
    """Adds subcommands to a parser; all have a summary and examples, and none accepts abbreviated options."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
        self._formatter = parser.formatter_class

    def add(self, name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        """Add a subcommand; ``examples`` are what follows ``insitu lab`` on the command line."""
        return self._subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  insitu lab {example}" for example in examples),
            formatter_class=self._formatter,
            allow_abbrev=False,
        )


def positive(text: str) -> int:
    """A whole number of at least 1. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds above 0. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def report(line: str) -> None:
    """Show one line of progress on standard error."""
    print(f"insitu: {line}", file=sys.stderr, flush=True)
