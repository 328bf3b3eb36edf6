"""Make a session from a file of another tool, such as perf.data or trace.dat.

The session is self-contained: symbols are looked up now, on the machine that has the binaries. report, flame and
the other commands also read these files directly.

examples:
  insitu import perf.data -o run.insitu
  perf record -g -o - -- ./prog | insitu import - -o run.insitu
  insitu import trace.dat -o run.insitu           what trace-cmd recorded
  insitu import trace-vm.dat --host trace.dat     a guest that was recorded with its host (trace-cmd record -A)
  insitu import trace.dat --guest trace-vm.dat -o both.insitu       host and guest in one session
  valgrind --xml=yes --xml-file=memcheck.xml ./prog; insitu import memcheck.xml
  insitu import out.folded -o run.insitu
"""

import argparse
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands._options import import_options, output_option, perf_data_options
from insitu.commands._output import Displaced
from insitu.plurals import counted

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.convert.formats.registry import ImportOptions
    from insitu.session.manifest import Manifest


__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    from insitu.convert.formats.registry import IMPORTERS

    parser.epilog = "formats (recognised by their content):\n" + "\n".join(
        f"  {importer.name:<12} {importer.title}" for importer in IMPORTERS
    )
    parser.add_argument("file", metavar="FILE", help="the file to read; - for standard input")
    output_option(parser, "session to make (default: FILE.insitu)", metavar="RUN")
    perf_data_options(parser)
    parser.add_argument(
        "--comm-first",
        action=argparse.BooleanOptionalAction,
        help="folded: the first frame of each stack is (not) the command's name (default: decided by the file)",
    )
    parser.add_argument(
        "--column",
        choices=("before", "after"),
        help="folded, lines of two counts: read the first or the second (default: after)",
    )
    parser.add_argument(
        "--host", metavar="DAT", help="trace.dat of a guest: the host's file, whose clock the times are to be of"
    )
    parser.add_argument(
        "--guest",
        metavar="DAT",
        action="append",
        default=[],
        help="trace.dat of a host: the file of a guest, to be in the same session (repeat for each)",
    )
    parser.add_argument(
        "--skip-bad-lines", action="store_true", help="text: leave out lines that cannot be read, and say how many"
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.convert.formats.registry import importer_of
    from insitu.convert.open import import_file
    from insitu.errors import InsituError
    from insitu.session.manifest import Manifest

    options = import_options(args)._replace(
        comm_first=args.comm_first,
        column=args.column,
        skip_bad_lines=args.skip_bad_lines,
        host=Path(args.host) if args.host is not None else None,
        guests=tuple(map(Path, args.guest)),
    )
    if args.host is not None and args.guest:
        raise InsituError("--host and --guest: FILE is that of a guest, or of a host", remedy="give one", status=2)
    for option, given, whose in (("--host", args.host is not None, "guest"), ("--guest", args.guest, "host")):
        if given and (args.file == "-" or importer_of(Path(args.file)).name != "trace.dat"):
            raise InsituError(
                f"{args.file}: {option} is for the trace.dat of a {whose}", remedy="leave it out", status=2
            )
    output = Path(args.output or f"{'stdin' if args.file == '-' else Path(args.file).name}.insitu")
    displaced = Displaced(output)
    if args.file == "-":
        _import_stdin(output, options)
    else:
        import_file(args.file, output, options)
    displaced.report()
    manifest = Manifest.read(output)
    for note in manifest.notes:
        messages.note(note)
    messages.note(f"{_content(manifest)}, {manifest.lost} lost, in {output}")
    return 0


def _content(manifest: "Manifest") -> str:
    """What a session holds, such as "12 samples"."""
    rows = {name: table["rows"] for name, table in manifest.tables.items()}
    if "sample" in rows:
        what = "stack" if any(source.get("value") == "weight" for source in manifest.sources) else "sample"
        return counted(rows["sample"], what)
    if "memcheck_leak" in rows:
        return f"{counted(rows['memcheck_leak'], 'leak record')}, {counted(rows['memcheck_error'], 'error')}"
    count = sum(count for name, count in rows.items() if name.startswith("event."))
    events = counted(count, "event")
    return f"{counted(rows['span'], 'span')}, {events}" if rows.get("span") else events


def _import_stdin(output: "Path", options: "ImportOptions") -> None:
    """Import a copy of standard input: readers of perf.data need a file in which they can seek."""
    import tempfile

    from insitu.commands._input import copy_input
    from insitu.convert.open import import_file
    from insitu.errors import InsituError
    from insitu.files import temporary_home

    directory = temporary_home()
    with tempfile.TemporaryFile(dir=directory) as copy:  # without a name: nothing of it stays
        try:
            copy_input(copy)
        except OSError as error:
            raise InsituError(
                f"cannot copy standard input to {directory}: {error.strerror}",
                remedy="set TMPDIR to a directory with free space",
            ) from None
        path = f"/proc/self/fd/{copy.fileno()}"
        try:
            import_file(path, output, options, name="standard input")
        except InsituError as error:
            message = error.args[0].replace(path, "standard input")
            raise InsituError(message, remedy=error.remedy, status=error.status) from None
