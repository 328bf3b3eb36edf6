"""List the kernel's dynamic debug messages, or switch some on and follow them; their flags are put back at the end.

QUERY is in the kernel's own words: module, file, func, format, and line or line FROM-TO, each with a value in which *
stands for anything. Without flags the sites are listed; with flags (+p prints, -p does not; f, l, m, t add function,
line, module, thread) they are changed, the changes are shown, and their messages are followed in the kernel log, for
-d seconds, while COMMAND runs, or until Ctrl-C.

examples:
  insitu dyndbg module usbcore                     sites of a module
  insitu dyndbg func 'ext4_*' format '*error*'     by function and format
  insitu dyndbg file 'fs/ext4/*' +p -d 10          their messages, for ten seconds
  insitu dyndbg module nf_tables +p -- ./load      while a command runs
"""

import argparse
import re
import sys
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import duration_option, json_option, limit_option
from insitu.errors import InsituError, nearest

if TYPE_CHECKING:
    from insitu.kernel.dynamic_debug import Site

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, command_after_dashes=True)
_KEYS = ("module", "file", "func", "format", "line")
_FLAGS = re.compile(r"[-+=][pflmtdsT_]+")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="*", metavar="QUERY", help="which sites, and flags to set (default: list all)")
    duration_option(parser)
    limit_option(parser, 0, "sites")
    json_option(parser, "the sites as one JSON document")


def run(args: argparse.Namespace) -> int:
    from insitu.kernel.dynamic_debug import read_sites
    from insitu.valid_text import json_document
    from insitu.views.dyndbg import site_blocks
    from insitu.views.terminal import Screen

    words = list(args.query)
    flags = words.pop() if words and _FLAGS.fullmatch(words[-1]) else ""
    wanted = _wanted(words)
    sites = [site for site in read_sites() if _matches(site, wanted)]
    if not sites:
        raise InsituError(f"no site matches {' '.join(words)}", remedy="modules that are not loaded have none")
    if flags:
        return _followed(args, flags, sites)
    if args.json:
        rows = [site._asdict() for site in sites[: args.limit or None]]
        print(json_document({"format": "insitu-dyndbg-1", "sites": rows}))
    else:
        Screen.of(sys.stdout).write(site_blocks(sites, args.limit))
    return 0


def _wanted(words: list[str]) -> dict[str, str]:
    """The keys of a query with their values. Raises InsituError (status 2) for one that is invalid."""
    if len(words) % 2:
        key = words[-1]
        what = " has no value" if key in _KEYS else nearest(key, _KEYS) or " has no value"
        remedy = f"QUERY is pairs such as module NAME; {key}{what}"
        raise InsituError(f"{key}: incomplete query", remedy=remedy, status=2)
    found = dict(zip(words[::2], words[1::2], strict=True))
    for key, value in found.items():
        if key not in _KEYS:
            raise InsituError(f"{key}: not one of {', '.join(_KEYS)}{nearest(key, _KEYS)}", status=2)
        if key == "line" and not re.fullmatch(r"\d{0,9}(-\d{0,9})?", value):
            raise InsituError(f"line {value}: a number, or FROM-TO", status=2)
        if '"' in value or "\n" in value:
            raise InsituError(f"{key} {value}: quotation marks and line ends cannot be looked for", status=2)
    return found


def _matches(site: "Site", wanted: dict[str, str]) -> bool:
    """Whether the kernel would take the site for a query (lib/dynamic_debug.c, ddebug_change())."""
    from fnmatch import fnmatchcase

    for key, value in wanted.items():
        if key == "line":
            low, dash, high = value.partition("-")
            first, last = int(low or 0), int(high or 1 << 30) if dash else int(low or 0)
            if not first <= site.line <= last:
                return False
        elif key == "format":
            if value not in site.format and not fnmatchcase(site.format, value):
                return False
        elif key == "file":
            if not any(fnmatchcase(name, value) for name in (site.file, site.file.rpartition("/")[2])):
                return False
        elif not fnmatchcase({"module": site.module, "func": site.function}[key], value):
            return False
    return True


def _followed(args: argparse.Namespace, flags: str, sites: "list[Site]") -> int:
    """Set flags, show what has changed, follow the messages of these sites, and put the flags back."""
    from insitu.kernel.dynamic_debug import read_sites, restore, write_query
    from insitu.record.kernel_log import KernelLogSource
    from insitu.record.run import Destination, Request
    from insitu.record.run import run as run_sources
    from insitu.terminal_text import print_line
    from insitu.views.dyndbg import SiteMessages, site_blocks
    from insitu.views.terminal import Screen

    request = Request(tuple(args.after_dashes or ()), whole_system=True, seconds=args.duration)
    request.check()
    before = {site.key: site.flags for site in sites}
    found = SiteMessages(sites)

    def deliver(ts_ns: int, text: str) -> None:
        if (site := found.site_of(text)) is not None:
            print_line(f"{ts_ns / 1e9:.6f} {site.place} {site.function}: {text}")
            sys.stdout.flush()

    source = KernelLogSource(deliver)
    try:
        for site in sites:  # one by one: what is set is what is put back
            write_query(f"{site.key} {flags}")
        changed = [site for site in read_sites() if before.get(site.key, site.flags) != site.flags]
        if not changed:
            messages.note("no flag has changed")
        else:
            Screen.of(sys.stderr).write(site_blocks(changed, args.limit))
        outcome = run_sources(request, [source], Destination())
    finally:
        restore(sites)
    if outcome.lost:
        messages.warning("messages of the kernel log were lost: it was overwritten")
    return outcome.exit_status
