"""What `insitu events -l` and `--lines` list: events with their fields; lines and what is visible there."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.ftrace.user_code import UserCode
    from insitu.views.terminal import Block

__all__ = ["listing_options", "run_lines", "run_list"]


def listing_options(parser: argparse.ArgumentParser) -> None:
    """Declare -l, -v, --lines and -x."""
    group = parser.add_argument_group("listing")
    group.add_argument("-l", "--list", nargs="?", const="*", metavar="GLOB", help="list events")
    group.add_argument("-v", "--verbose", action="store_true", help="with -l: their fields, with types")
    group.add_argument("--lines", metavar="FUNCTION", help="list the lines of a function, and what is visible there")
    group.add_argument("-x", "--exec", metavar="BINARY", help="--lines: of this program, library or vmlinux")


def run_list(args: argparse.Namespace, tracefs: "Tracefs") -> int:
    """List events; returns the exit status."""
    from insitu.record.ftrace.event_fields import declared
    from insitu.record.ftrace.tracepoints import matching_events
    from insitu.terminal_text import printable

    for name in matching_events(args.list, tracefs.events()):
        print(printable(name))
        if args.verbose:
            for field in tracefs.event(*name.split(":", 1)).fields:
                print(f"    {printable(declared(field))}")
    return 0


def run_lines(args: argparse.Namespace) -> int:
    """List a function's lines, or a kernel function's parameters; returns the exit status."""
    from insitu.record.ftrace.user_code import UserCode, kernel_code
    from insitu.views.terminal import Screen

    if args.exec:
        shown = _lines(UserCode(args.exec), args.lines)
    else:
        try:
            shown = _lines(kernel_code(), args.lines)
        except InsituError:  # without its debug information
            shown = _parameters(args.lines)
    Screen.of(sys.stdout).write(shown)
    return 0


def _lines(code: "UserCode", function: str) -> "Iterator[Block]":
    from insitu.views.table import Column, Table

    file, lines = code.lines(function)
    first = lines[0].number if lines else 0
    yield [(f"# {function} in {file}", "bold")]
    rows, known, shown = [], set(), set()
    for line in lines:
        place, names = "", []
        if line.address is not None:
            scope = code.scope(line.address, 0)
            place = f"+{line.number - first}"
            names = [each.name for each in scope.variables if code.is_visible(scope, each, line.address)]
            known |= {each.name for each in scope.variables}
            shown |= set(names)
        style = "" if place else "dim"
        rows.append([(place, ""), (str(line.number), style), (line.text.rstrip(), style), (", ".join(names), "")])
    columns = [Column("place"), Column("line"), Column("source", "left"), Column("visible", "left", fold=True)]
    yield Table(columns, rows)
    yield [("", "")]
    yield [("lines without a place have no code of their own", "dim")]
    if known > shown:
        yield [(f"optimized out on every line, or computed: {', '.join(sorted(known - shown))}", "dim")]
    if not any(line.text for line in lines):
        yield [("the source file cannot be read", "dim")]


def _parameters(function: str) -> "Iterator[Block]":
    from insitu.symbols import kernel_btf

    prototype = kernel_btf.vmlinux().prototype(function)
    if prototype is None:
        raise InsituError(
            f"the kernel has no function {function} with types (BTF)", remedy="-x BINARY for a program's"
        )
    yield [(f"# {prototype.declaration(function)}", "bold")]
    for each in prototype.parameters:
        yield [(f"  {each.type.declaration(each.name)}", "")]
    yield [("", "")]
    yield [("parameters are visible at the beginning of the function: kprobe, fprobe", "dim")]
    yield [("its lines need the kernel's debug information: -x VMLINUX", "dim")]
