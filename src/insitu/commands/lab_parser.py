"""How `insitu lab`'s subcommands are declared: a summary, options, and examples below them."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["subcommand"]


def subcommand(subparsers: "Subparsers", name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
    """Add a subcommand; ``examples`` are what follows ``insitu lab`` on the command line."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  insitu lab {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
