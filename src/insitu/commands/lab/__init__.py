"""Run anything under any kernel, in a temporary QEMU guest over this machine's own files.

  insitu lab fetch 6.1                     download a distribution kernel into the cache; nothing is installed
  insitu lab run -k 6.1 -- uname -r        run a command: same directory, environment, output and exit status
  insitu lab shell -k 6.12                 an interactive shell
  insitu lab compare -k 6.1,6.12 -- CMD    is one of the kernels slower?

The guest sees this machine's files read-only, with a tmpfs over them; --rw DIR shares a writable directory.
Exit status 125 means that the guest failed (a kernel panic, a hang), 124 that the --timeout expired.
"""

import argparse

from insitu.commands import Properties
from insitu.commands.lab import compare, guests, kernels, observe
from insitu.commands.lab._subcommands import Subcommands

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, words_follow=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands, each of which sets ``action``."""
    subcommands = Subcommands(parser)
    for group in (kernels, guests, compare, observe):
        group.arguments(subcommands)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return its exit status."""
    status: int = args.action(args)
    return status
