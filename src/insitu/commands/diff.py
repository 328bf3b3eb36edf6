"""Show what grew and what shrank between two recordings, function by function.

By default, percentages are compared. "*" marks a change, "~" one that is not significant (p >= 0.05).
Of two moments of a process (insitu proc -o), its memory by what it belongs to, its descriptors and threads.
Of two moments of a heap (insitu leaks -o), its blocks by class, size and content.
Of recorded calls (insitu calls -o, or function_graph of trace-cmd), self times are compared, in total and per call.
-o also writes a differential flame graph as one HTML page.

examples:
  insitu diff before.insitu after.insitu
  insitu diff before.insitu after.insitu -o diff.html
  insitu proc -o before.insitu 1234; ...; insitu proc -o after.insitu 1234; insitu diff before.insitu after.insitu
  insitu leaks -o before.insitu 1234; ...; insitu leaks -o after.insitu 1234; insitu diff before.insitu after.insitu
  insitu diff --by-time --unit time idle.insitu busy.insitu        CPU seconds per second
  insitu diff --folded before.insitu after.insitu > diff.folded    for flamegraph.pl
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands._options import (
    json_option,
    limit_option,
    output_option,
    selection,
    selection_options,
    unit_option,
    unit_value,
)

if TYPE_CHECKING:
    from insitu.session.reader import Session
    from insitu.session.weighted_stacks import Value

__all__ = ["arguments", "run"]

_OF_A_MOMENT = {"proc", "leaks", "cache"}
"""Sources of sessions without stacks."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="BEFORE", help="session, perf.data, trace.dat or folded stacks")
    parser.add_argument("after", metavar="AFTER", help="session, perf.data, trace.dat or folded stacks")
    output_option(parser, "write a differential flame graph: FILE.html")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help='write "stack before after" lines instead')
    json_option(form)
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--no-normalise", action="store_true", help="compare amounts instead of percentages")
    scale.add_argument("--by-time", action="store_true", help="compare amounts per second of recording")
    parser.add_argument(
        "--part", choices=("self", "total"), default="self", help="compare self or total (inclusive) time"
    )
    unit_option(parser)
    limit_option(parser, 30, "rows")
    selection_options(parser, thread=False)


def run(args: argparse.Namespace) -> int:
    import contextlib
    import sys
    from pathlib import Path

    from insitu.convert.open import is_like_a_session, load_stacks, open_session
    from insitu.errors import InsituError
    from insitu.session.call_table import shows_calls
    from insitu.session.weighted_stacks import Selection
    from insitu.views.diff import Scale, diff_folded, diff_stacks, diff_to_json
    from insitu.views.heap_diff import shows_heaps
    from insitu.views.losses import loss_text
    from insitu.views.process_diff import shows_processes

    output = Path(args.output) if args.output else None
    if output is not None and output.suffix not in (".html", ".htm"):
        raise InsituError(f"{output}: not .html", remedy="-o FILE.html", status=2)
    want = selection(args)
    of_stacks = output or args.folded or args.by_time or args.no_normalise or args.unit or args.part != "self"
    with contextlib.ExitStack() as opened:
        paths = (Path(args.before), Path(args.after))
        sessions = [opened.enter_context(open_session(each)) if is_like_a_session(each) else None for each in paths]
        if want == Selection() and not of_stacks and all(each and shows_calls(each) for each in sessions):
            return _diff_calls(args, *(each for each in sessions if each))
        if want == Selection() and not of_stacks and all(each and shows_processes(each) for each in sessions):
            return _diff_processes(args, *(each for each in sessions if each))
        if want == Selection() and not of_stacks and all(each and shows_heaps(each) for each in sessions):
            return _diff_heaps(args, *(each for each in sessions if each))
        kinds = [_kind(session) for session in sessions]
        if kinds[0] != kinds[1] and not _OF_A_MOMENT.isdisjoint(kinds):
            text = ", ".join(f"{path} ({kind})" for path, kind in zip(paths, kinds, strict=True))
            raise InsituError(f"these are two kinds of recordings: {text}", remedy="compare two of one kind")
        before, after = (
            session.stacks(want) if session else load_stacks(path, want)
            for path, session in zip(paths, sessions, strict=True)
        )
    values = (unit_value(before, args.unit), unit_value(after, args.unit))
    value: Value = "weight" if "weight" in values else "count"
    warnings = [
        f"{when}: {text}" for when, side in (("before", before), ("after", after)) if (text := loss_text(side.losses))
    ]
    if output is not None:
        from insitu.views.call_tree import call_tree
        from insitu.views.flamegraph import diff_flame_html
        from insitu.views.output import write_file

        trees = (call_tree(before, value=value), call_tree(after, value=value))
        title = f"{Path(args.before).name} to {Path(args.after).name}"
        page = diff_flame_html(*trees, title=title, notes=warnings)
        write_file(output, page.encode("utf-8", "replace"))
    if args.folded:
        from insitu.views.output import write_stdout

        text = diff_folded(before, after, normalise=not args.no_normalise, value=value)
        write_stdout(text.encode(errors="backslashreplace"))
        return 0
    scale: Scale = "amount" if args.no_normalise else "rate" if args.by_time else "share"
    diff = diff_stacks(before, after, scale=scale, value=value, part=args.part)
    if args.json:
        print(diff_to_json(diff, limit=args.limit))
        return 0

    from insitu.views.diff_text import diff_lines
    from insitu.views.terminal import Screen

    screen = Screen.of(sys.stdout)
    screen.write(diff_lines(diff, screen, limit=args.limit, warnings=warnings))
    return 0


def _kind(session: "Session | None") -> str:
    """What recorded a session."""
    kinds = dict.fromkeys(str(source.get("kind", "")) for source in session.manifest.sources) if session else {}
    return " and ".join(kinds) or "of another tool"


def _diff_calls(args: argparse.Namespace, *sessions: "Session") -> int:
    """Show whose self time changed between two recordings of calls."""
    import sys

    from insitu.session.call_table import load_calls
    from insitu.views.calls.diff import call_changes, changes_json, changes_table
    from insitu.views.calls.functions import function_calls
    from insitu.views.terminal import Screen

    before, after = (function_calls(load_calls(session.database)) for session in sessions)
    changes = call_changes(before, after)
    if args.json:
        print(changes_json(changes, args.limit))
    else:
        screen = Screen.of(sys.stdout)
        screen.write(changes_table(changes, screen, limit=args.limit))
    return 0


def _diff_processes(args: argparse.Namespace, *sessions: "Session") -> int:
    """Show what grew between two moments of a process."""
    import sys

    from insitu.valid_text import json_document
    from insitu.views.process_diff import changes, changes_blocks, changes_document
    from insitu.views.terminal import Screen

    found = changes(*sessions)
    if args.json:
        print(json_document(changes_document(found)))
    else:
        Screen.of(sys.stdout).write(changes_blocks(found, args.limit))
    return 0


def _diff_heaps(args: argparse.Namespace, *sessions: "Session") -> int:
    """Show what grew between two moments of a heap."""
    import sys

    from insitu.valid_text import json_document
    from insitu.views.heap_diff import heap_changes, heap_changes_blocks, heap_changes_document
    from insitu.views.terminal import Screen

    found = heap_changes(*sessions)
    if args.json:
        print(json_document(heap_changes_document(found)))
    else:
        Screen.of(sys.stdout).write(heap_changes_blocks(found, args.limit))
    return 0
