"""Search the kernel's settings with their documentation, and show which differ from the defaults or another machine.

PATTERN is part of a name, a glob (vm.dirty_*), or a word of the documentation. One sysctl is shown with all that the
kernel's documentation says of it. Nothing is changed: sysctl -w does that.

examples:
  insitu sysctl vm.swappiness                  its value, and the kernel's documentation of it
  insitu sysctl dirty                          all sysctls about that
  insitu sysctl --changed                      settings that differ from this kernel's defaults
  insitu sysctl --save here.json               all settings, for another day or machine
  insitu sysctl --changed --against here.json  what has changed since, or differs there
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import json_option
from insitu.errors import InsituError, nearest

if TYPE_CHECKING:
    from insitu.inspect.sysctl import Sysctl, Values

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    peer_options={
        "-w": "insitu changes no settings; the command sysctl does",
        "--write": "insitu changes no settings; the command sysctl does",
        "-p": "the command sysctl loads settings",
        "--pattern": "write the pattern as it is",
        "-A": "insitu sysctl shows all",
    }
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="*", metavar="PATTERN", help="which sysctls (default: all)")
    parser.add_argument("-v", "--verbose", action="store_true", help="the whole documentation of each")
    parser.add_argument("--changed", action="store_true", help="only settings that differ from the kernel's defaults")
    parser.add_argument("--against", metavar="FILE", help="with --changed: from a file of --save instead")
    parser.add_argument("--save", metavar="FILE", help="write all settings to a file")
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.inspect.sysctl import documentation, read_sysctls, values_here
    from insitu.views.output import write_file

    if args.against and not args.changed:
        raise InsituError("--against FILE is for --changed", status=2)
    everything = read_sysctls()
    if args.save:
        if args.pattern:
            raise InsituError("--save keeps all settings", remedy="leave the pattern out", status=2)
        write_file(Path(args.save), values_here(everything).document())
        return 0
    version, texts = documentation()
    found = _matching(everything, args.pattern, texts)
    if args.changed:
        return _differing(args, found, values_here(everything))
    return _shown(args, found, texts, version)


def _matching(everything: "list[Sysctl]", patterns: list[str], texts: dict[str, str]) -> "list[Sysctl]":
    """The sysctls that match a pattern: by name, or where no name does, by their documentation."""
    from fnmatch import fnmatchcase

    if not patterns:
        return everything
    found: dict[str, Sysctl] = {}
    for pattern in patterns:
        wanted = pattern.replace("/", ".")
        exact = [each for each in everything if each.name == wanted]
        by_name = exact or [
            each for each in everything if fnmatchcase(each.name, wanted if "*" in wanted else f"*{wanted}*")
        ]
        by_text = by_name or [each for each in everything if pattern.lower() in texts.get(each.name, "").lower()]
        if not by_text:
            hint = nearest(pattern, [each.name for each in everything])
            raise InsituError(f"no sysctl matches {pattern}{hint}")
        found |= {each.name: each for each in by_text}
    return list(found.values())


def _shown(args: argparse.Namespace, found: "list[Sysctl]", texts: dict[str, str], version: str) -> int:
    import sys

    from insitu.valid_text import json_document
    from insitu.views.sysctl import sysctl_blocks
    from insitu.views.terminal import Screen

    if args.json:
        rows = [{**each._asdict(), "documentation": texts.get(each.name)} for each in found]
        print(json_document({"format": "insitu-sysctl-list-1", "documentation_of": version, "sysctls": rows}))
        return 0
    whole = args.verbose or len(found) == 1
    Screen.of(sys.stdout).write(sysctl_blocks(found, texts, version, whole=whole))
    return 0


def _differing(args: argparse.Namespace, found: "list[Sysctl]", here: "Values") -> int:
    import os
    import sys
    from pathlib import Path

    from insitu import messages
    from insitu.inspect.sysctl import defaults, differences, read_values
    from insitu.valid_text import json_document
    from insitu.views.sysctl import difference_blocks
    from insitu.views.terminal import Screen

    there = read_values(Path(args.against)) if args.against else defaults(os.uname().release)
    names = {each.name for each in found} if args.pattern else None
    rows = [each for each in differences(here, there) if names is None or each.name in names]
    if args.json:
        document = {"format": "insitu-sysctl-changes-1", "there": there.of, "release": there.release}
        print(json_document({**document, "differences": [row._asdict() for row in rows]}))
        return 0
    title = f"{there.of} ({there.release})" if args.against else f"default of {there.release}"
    Screen.of(sys.stdout).write(difference_blocks(rows, "here", title))
    if not rows:
        messages.note(f"nothing differs from {title if args.against else f'the {title}'}")
    return 0
