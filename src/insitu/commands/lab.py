"""Run anything under any kernel, in a throw-away QEMU guest over this machine's own files.

  insitu lab fetch 6.1                     a distribution kernel into the cache; nothing is installed
  insitu lab run -k 6.1 -- uname -r        a command under it: same directory, environment, output, exit status
  insitu lab shell -k 6.12                 a shell
  insitu lab compare -k 6.1,6.12 -- CMD    is it the kernel that is slow?

Inside, the files are this machine's: read-only below, a tmpfs above, but for the directories given with --rw.
Exit status 125 says that the guest failed (a kernel panic, a hang), 124 that the --timeout passed.
"""

import argparse

from insitu.commands import Properties, lab_compare, lab_guests, lab_kernels, lab_tools

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, words_follow=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands, each of which sets ``action``."""
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for module in (lab_kernels, lab_guests, lab_compare, lab_tools):
        module.arguments(subparsers)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; its exit status."""
    status: int = args.action(args)
    return status
