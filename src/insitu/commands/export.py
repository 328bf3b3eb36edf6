"""Write a recording in a format that other tools read.

The suffix of FILE chooses the format, or --format does. Without -o the output goes to standard output.

examples:
  insitu export run.insitu -o run.speedscope.json        open it at speedscope.app
  insitu export run.insitu -o run.pb.gz                  for pprof
  insitu export run.insitu -o run.pftrace                open it at ui.perfetto.dev
  insitu export run.insitu --format folded | flamegraph.pl > run.svg
"""

import argparse
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands._options import (
    chosen_run,
    format_option,
    output_option,
    range_option,
    require_stacks,
    run_argument,
    selection,
    selection_options,
    unit_option,
    unit_value,
)
from insitu.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from insitu.convert.formats.registry import Exporter, ExportOptions
    from insitu.session.weighted_stacks import WeightedStacks

__all__ = ["arguments", "export_dot", "run"]


def _exporters() -> "tuple[Exporter, ...]":
    """All formats: those of the registry, and the one that is a view's own output."""
    from insitu.convert.formats.registry import EXPORTERS, Exporter

    dot = Exporter(
        "dot",
        "the call graph, for Graphviz",
        (".dot", ".gv"),
        ("stack", "frame"),
        "insitu.commands.export:export_dot",
    )
    return (*EXPORTERS, dot)


def arguments(parser: argparse.ArgumentParser) -> None:
    exporters = _exporters()
    parser.epilog = "formats and suffixes:\n" + "\n".join(
        f"  {exporter.name:<12} {exporter.title} ({', '.join(exporter.suffixes)})" for exporter in exporters
    )
    run_argument(parser, "session, or a file that insitu import reads")
    output_option(parser, "output file (default, and -: standard output)")
    format_option(parser, [exporter.name for exporter in exporters], "output format (default: by the suffix of -o)")
    unit_option(parser, "folded, dot: what is added up")
    selection_options(parser)
    range_option(parser)


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from insitu.convert.formats.registry import ExportOptions, exporter_of
    from insitu.convert.open import load_stacks
    from insitu.errors import InsituError
    from insitu.views.losses import loss_text
    from insitu.views.time_range import check_range

    output = None if args.output == "-" else args.output
    exporter = exporter_of(_exporters(), name=args.format, output=output)
    if exporter.binary and output is None and sys.stdout.isatty():
        raise InsituError(
            f"{exporter.name} is binary and is not written to a terminal", remedy="give -o FILE", status=2
        )
    path = Path(chosen_run(args.run_path))
    _require_tables(exporter, path)
    if exporter.whole:
        _write_session(exporter, path, args, output)
        return 0
    stacks = load_stacks(path, selection(args), times=exporter.times)
    if args.range:
        check_range(stacks, args.range)
    if not stacks.total_count:
        raise InsituError(f"{path}: no {stacks.counted} to export")
    require_stacks(path, stacks)
    lost = loss_text(stacks.losses)
    if lost:
        messages.warning(f"{path}: {lost}")
    _write(exporter.write(stacks, ExportOptions(path.name, unit_value(stacks, args.unit))), output)
    return 0


def _write_session(exporter: "Exporter", path: "Path", args: argparse.Namespace, output: str | None) -> None:
    from insitu.convert.formats.registry import ExportOptions
    from insitu.convert.open import open_session
    from insitu.errors import InsituError
    from insitu.session.weighted_stacks import Selection

    if args.unit or selection(args) != Selection():
        raise InsituError(
            f"{exporter.name} holds the whole session: nothing can be selected", remedy="omit the options", status=2
        )
    with open_session(path) as session:
        if session.manifest.lost:
            lost = session.manifest.lost
            messages.warning(f"{path}: {counted(lost, 'record was', 'records were')} lost")
        _write(exporter.write_session(session, ExportOptions(path.name)), output)


def _write(data: "bytes | Iterable[bytes]", output: str | None) -> None:
    from pathlib import Path

    from insitu.views.output import write_file, write_stdout

    if output is None:
        write_stdout(data)
    else:
        write_file(Path(output), data)


def _require_tables(exporter: "Exporter", path: "Path") -> None:
    """Raise InsituError if a finished session has not what the format is made of."""
    from insitu.convert.formats.registry import require_tables
    from insitu.session.directory import is_session, table_files
    from insitu.session.manifest import COMPLETE, Manifest

    if path.is_dir() and is_session(path) and Manifest.read(path).state == COMPLETE:
        require_tables(exporter, path, table_files(path))


def export_dot(stacks: "WeightedStacks", options: "ExportOptions") -> bytes:
    """The call graph of weighted stacks in Graphviz's language."""
    from insitu.views.call_tree import call_tree
    from insitu.views.callgraph import call_graph, to_dot

    graph = call_graph(call_tree(stacks, value=options.value))
    return to_dot(graph, title=options.title).encode(errors="backslashreplace")
