"""Make a session from what another tool recorded: perf.data (file or pipe mode, compressed too) or folded stacks.

The session is self-contained: symbols are looked up now, on the machine that has the binaries. report, flame and
the other commands also read perf.data and folded stacks directly.

examples:
  insitu import perf.data -o run.insitu
  perf record -g -o - -- ./prog | insitu import - -o run.insitu
  insitu import out.folded -o run.insitu
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="perf.data or folded stacks; - reads standard input")
    parser.add_argument("-o", "--output", metavar="RUN", help="the session to make (FILE.insitu)")
    parser.add_argument(
        "--as-perf",
        action="store_true",
        help="name callers in frame-pointer stacks as perf script does: at the return address, no inlines",
    )


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from insitu.convert.open import Session, import_file

    output = Path(args.output or f"{'stdin' if args.file == '-' else Path(args.file).name}.insitu")
    if args.file == "-":
        _import_stdin(output, as_perf=args.as_perf)
    else:
        import_file(args.file, output, as_perf=args.as_perf)
    session = Session(output)
    lost = session.info.get("lost") or 0
    print(f"insitu: {session.info['samples']} samples, {lost} lost, in {output}", file=sys.stderr)
    return 0


def _import_stdin(output: "Path", *, as_perf: bool) -> None:
    """Import a copy of standard input: reading perf.data wants to jump about in it."""
    import shutil
    import sys
    import tempfile

    from insitu.convert.open import import_file
    from insitu.errors import InsituError

    with tempfile.NamedTemporaryFile(prefix="insitu-stdin-") as copy:
        try:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
        except OSError as error:
            raise InsituError(
                f"standard input cannot be kept in {copy.name}: {error.strerror}",
                remedy="TMPDIR says where there is room",
            ) from None
        try:
            import_file(copy.name, output, as_perf=as_perf)
        except InsituError as error:
            said = error.args[0].replace(copy.name, "standard input")
            raise InsituError(said, remedy=error.remedy, status=error.status) from None
