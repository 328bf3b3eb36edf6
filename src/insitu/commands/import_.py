"""Make a session from what another tool recorded: perf.data (file or pipe mode, compressed too) or folded stacks.

The session is self-contained: symbols are looked up now, on the machine that has the binaries. report, flame and
the other commands also read perf.data and folded stacks directly.

examples:
  insitu import perf.data -o run.insitu
  perf record -g -o - -- ./prog | insitu import - -o run.insitu
  insitu import out.folded -o run.insitu
"""

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="perf.data or folded stacks; - reads standard input")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the session to make (FILE.insitu)"
    )
    parser.add_argument(
        "--as-perf",
        action="store_true",
        help="name callers in frame-pointer stacks as perf script does: at the return address, no inlines",
    )


def run(args: argparse.Namespace) -> int:
    import sys
    import tempfile
    from pathlib import Path

    from insitu.session.reader import Session, import_file

    output = Path(args.output or f"{'stdin' if args.file == '-' else Path(args.file).name}.insitu")
    if args.file == "-":
        with tempfile.NamedTemporaryFile(prefix="insitu-stdin-") as copy:
            while block := sys.stdin.buffer.read(1 << 20):
                copy.write(block)
            copy.flush()
            import_file(copy.name, output, as_perf=args.as_perf)
    else:
        import_file(args.file, output, as_perf=args.as_perf)
    session = Session(output)
    lost = session.info.get("lost") or 0
    print(f"insitu: {session.info['samples']} samples, {lost} lost, in {output}", file=sys.stderr)
    return 0
