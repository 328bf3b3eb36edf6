"""Write a recording in a format that other tools read.

The format is taken from FILE's name where --format does not say it: .folded or .txt, .json (speedscope),
.pb.gz or .pprof, .dot. Without -o it goes to standard output.

examples:
  insitu export run.insitu -o run.speedscope.json        open it at speedscope.app
  insitu export run.insitu -o run.pb.gz                  for pprof
  insitu export run.insitu --format folded | flamegraph.pl > run.svg
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insitu.session.profile import Profile, Value

__all__ = ["arguments", "run"]

_SUFFIXES = {
    ".folded": "folded",
    ".txt": "folded",
    ".json": "speedscope",
    ".pb.gz": "pprof",
    ".pb": "pprof",
    ".pprof": "pprof",
    ".dot": "dot",
    ".gv": "dot",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_path", metavar="RUN", help="session, perf.data or folded stacks")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (else standard output)")
    parser.add_argument("--format", choices=("folded", "speedscope", "pprof", "dot"), help="what to write")
    parser.add_argument(
        "--weight", choices=("samples", "weight"), help="folded, dot: add up samples, or time or events"
    )
    parser.add_argument("--thread", type=int, metavar="TID", help="only this thread")
    parser.add_argument("--comm", metavar="NAME", help="only threads of this name")
    parser.add_argument("--event", metavar="NAME", help="this event (else the first that has samples)")


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from insitu.convert.open import load_profile
    from insitu.errors import InsituError
    from insitu.views.losses import loss_text, lost_by_source
    from insitu.views.output import write_file, write_stdout
    from insitu.views.selection import selected

    form = args.format or _format_of(args.output)
    if form == "pprof" and args.output is None and sys.stdout.isatty():
        raise InsituError("pprof's format is binary: not written to a terminal", remedy="-o FILE.pb.gz", status=2)
    profile = selected(load_profile(args.run_path), event=args.event, tid=args.thread, comm=args.comm)
    lost = loss_text(lost_by_source(profile.lost))
    if lost:
        print(f"insitu: {args.run_path}: {lost}", file=sys.stderr)
    data = _encoded(form, profile, Path(args.run_path).name, args.weight)
    if args.output is None:
        write_stdout(data)
    else:
        write_file(Path(args.output), data)
    return 0


def _format_of(output: str | None) -> str:
    from insitu.errors import InsituError

    for suffix, form in _SUFFIXES.items():
        if output is not None and output.endswith(suffix):
            return form
    what = "no --format" if output is None else f"{output}: the name does not tell the format"
    raise InsituError(what, remedy="--format folded, speedscope, pprof or dot", status=2)


def _encoded(form: str, profile: "Profile", name: str, weight: "Value | None") -> bytes:
    from insitu.views.selection import value_of

    if form == "pprof":
        from insitu.convert.formats.pprof import write_pprof

        return write_pprof(profile)
    if form == "speedscope":
        from insitu.convert.formats.speedscope import write_speedscope

        return write_speedscope(profile, name).encode()
    value = value_of(profile, weight)
    if form == "folded":
        from insitu.convert.formats.folded import write_folded

        return write_folded(profile, value=value).encode(errors="backslashreplace")
    from insitu.views.callgraph import call_graph, to_dot

    return to_dot(call_graph(profile.tree(value=value)), title=name).encode(errors="backslashreplace")
