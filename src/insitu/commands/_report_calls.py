"""insitu report --slowest and --callees: single calls of a recording of calls."""

import argparse
import sys
from typing import TYPE_CHECKING

from insitu.errors import InsituError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.session.call_table import CallTable
    from insitu.session.reader import Session
    from insitu.views.calls.text import NotTraced

__all__ = ["no_calls", "report_calls"]


def no_calls(path: "str | Path") -> InsituError:
    """The error for a recording without calls of functions."""
    return InsituError(f"{path}: no calls of functions", remedy="insitu calls -o RUN records them")


def report_calls(session: "Session", args: argparse.Namespace) -> int:
    """Print what --slowest or --callees asks for. Raises InsituError."""
    from insitu.session.call_table import has_calls, load_calls, thread_labels
    from insitu.views.calls.functions import callees_of
    from insitu.views.calls.lines import HEAD, call_json
    from insitu.views.calls.slowest import slowest_call, subtree_lines, subtree_text
    from insitu.views.calls.text import callees_json, callees_table
    from insitu.views.terminal import Screen

    if not has_calls(session.database):
        raise no_calls(session.name)
    table = load_calls(session.database)
    _known(table, args.callees or args.slowest)
    if args.callees:
        found = callees_of(table, args.callees)
        not_traced = _not_traced(session, args, {name for name, _ in table.functions})
        if args.json:
            print(callees_json(args.callees, *found, not_traced))
        else:
            Screen.of(sys.stdout).write(callees_table(args.callees, *found, not_traced))
        return 0
    row = slowest_call(table, args.slowest)
    lines = subtree_lines(table, row, thread_labels(session.database))
    if args.json:
        print("\n".join(map(call_json, lines)))
    else:
        print(HEAD)
        print("\n".join(subtree_text([*lines], args.min_percent)))
    return 0


def _not_traced(session: "Session", args: argparse.Namespace, traced: set[str]) -> "NotTraced | None":
    """What the function calls without being in the recording, by its machine code; None where that is not at hand.

    Raises InsituError, OSError for a file that cannot be read.
    """
    from insitu.kernel import procfs
    from insitu.symbols.kernel_text import KernelText
    from insitu.views.calls.text import NotTraced

    if args.vmlinux:
        kernel = KernelText.of_file(args.vmlinux)
    elif session.manifest.boot_id != procfs.boot_id() or session.manifest.imported_from:
        return None
    else:
        try:
            kernel = KernelText.of_running_kernel()
        except (OSError, InsituError):  # without root, or under lockdown
            return None
    called = kernel.calls(args.callees)
    if called is None:
        return None
    could_be, cannot_be = ([name for name in names if name not in traced] for names in called[:2])
    return NotTraced(could_be, cannot_be, called.through_pointers)


def _known(table: "CallTable", function: str) -> None:
    names = {name for name, _ in table.functions}
    if function and function not in names:
        raise InsituError(f"{function}: no such function in this recording{nearest(function, names)}")
