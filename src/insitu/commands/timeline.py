"""Write the timeline of a recording: what each thread and CPU did when, as one HTML page that works offline.

RUN is a session or a perf.data file; shown is what it has: CPUs and thread states with who woke whom, spans, system
calls, samples with their stacks, counters, events. Zoom with the wheel and Ctrl or w and s, down to the nanosecond;
move with a and d; search with /; drag to select a time and see its statistics; click a time in which a thread did
not run to see why; ? lists all keys.

examples:
  insitu timeline                               the last recording, into NAME-timeline.html
  insitu timeline run.insitu -o run.html
  insitu timeline run.insitu --range 2.5-4      seconds 2.5 to 4 of it
  insitu timeline run.insitu --serve            in a browser on this machine, for what is too much for a page
  insitu syscalls -o run.insitu -- ./prog && insitu timeline run.insitu
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands._options import chosen_run, count, output_option, run_argument

if TYPE_CHECKING:
    from insitu.views.timeline import Timeline

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    run_argument(parser, "session or perf.data")
    output_option(parser, "the page (default: NAME-timeline.html for NAME.insitu; - is standard output)")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (default: what was recorded)")
    parser.add_argument("--range", metavar="FROM-TO", help="only these seconds of the recording, such as 2.5-4")
    parser.add_argument("--serve", action="store_true", help="in a browser: prints an address of this machine")
    parser.add_argument("--port", type=count, default=0, help="port of --serve (default: a free one)")


def run(args: argparse.Namespace) -> int:
    """Write the page, or serve it until Ctrl-C."""
    import shlex
    from pathlib import Path

    from insitu.convert.open import open_session
    from insitu.views.page import write_page
    from insitu.views.time_range import time_range
    from insitu.views.timeline import timeline, timeline_html

    path = chosen_run(args.run_path)
    seconds = time_range(args.range) if args.range else None
    with open_session(path) as session:
        title = args.title or shlex.join(session.manifest.command) or Path(path).name
        made = timeline(session, title=title, seconds=seconds)
    if args.serve:
        return _serve(args.port, made)
    write_page(timeline_html(made), path, args.output, suffix="-timeline")
    return 0


def _serve(port: int, made: "Timeline") -> int:
    import contextlib
    import signal

    from insitu import messages
    from insitu.views.page import packed
    from insitu.views.page_server import PageServer
    from insitu.views.timeline import timeline_shell

    data = packed(*made)
    page = timeline_shell(made.meta["title"]).encode("utf-8", "replace")
    server = PageServer(port, page, {"data": lambda _: ("application/octet-stream", data)})
    with contextlib.closing(server):
        print(server.address, flush=True)
        messages.note("only browsers of this machine can open it; Ctrl-C ends it")
        while True:
            signal.pause()
