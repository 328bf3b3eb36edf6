"""How the subcommands of `insitu lab` are declared."""

import argparse

__all__ = ["Subcommands"]


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
