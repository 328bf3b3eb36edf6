"""Run a program in the probe language: text to eBPF, loaded, attached, printed as bpftrace prints.

examples:
  insitu trace -e 'tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }'
  insitu trace -e 'uprobe:/bin/bash:readline { printf("%s\\n", comm); }'
  insitu trace opensnoop.bt            a file, or the name of one of our own programs
  insitu trace prog.bt -c './cmd args' end when the command ends; cpid is its process
  insitu trace -l 'tracepoint:sched:*' list probes (-lv with their arguments)
"""

import argparse

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-e", dest="expression", metavar="PROGRAM", help="the program itself")
    parser.add_argument("-l", dest="list", action="store_true", help="list probes that match the pattern")
    parser.add_argument("-c", dest="command", metavar="CMD", help="run CMD and end with it")
    parser.add_argument("-p", dest="pid", type=int, metavar="PID", help="restrict probes to a process, end with it")
    parser.add_argument("-f", dest="format", choices=("text", "json"), default="text", help="output format")
    parser.add_argument(
        "-o", dest="output", metavar="FILE", help="write output to FILE; a session if FILE ends in .insitu"
    )
    parser.add_argument("-q", dest="quiet", action="store_true", help="print no 'Attaching' line")
    parser.add_argument(
        "-v", dest="verbose", action="store_true", help="show the verifier's log, argument types with -l"
    )
    parser.add_argument("-d", dest="seconds", type=float, metavar="SECONDS", help="end after this long")
    parser.add_argument("--unsafe", action="store_true", help="allow system(), signal() and override()")
    parser.add_argument("--dry-run", action="store_true", help="compile and load everything, attach nothing")
    parser.add_argument("--no-cache", action="store_true", help="compile even what was compiled before")
    parser.add_argument(
        "--dump",
        choices=("ast", "types", "ir", "insns", "xlated", "verifier"),
        help="show a stage of compilation and end",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SCRIPT [ARG]",
        help="a script, and its positional parameters; behind -- also its own options, as in --name=value",
    )
    parser.set_defaults(after_dashes=[])


def run(args: argparse.Namespace) -> int:
    """Do what the options say: the exit status."""
    import sys

    if args.list:
        from insitu.probe.listing import list_probes

        pattern = args.expression or (args.words[0] if args.words else "*")
        return list_probes(pattern, verbose=args.verbose, pid=args.pid)

    from insitu.probe import trace
    from insitu.probe.source import ScriptError

    keeper = None
    if args.output and args.output.endswith(".insitu") and not (args.dry_run or args.dump):
        from pathlib import Path

        from insitu.record.script import ScriptSession

        keeper = ScriptSession(Path(args.output))
    try:
        return trace.from_command_line(args, keeper)
    except ScriptError as error:
        print(f"insitu: {error.rendered}", file=sys.stderr)
        if args.verbose and error.log:
            print(error.log, file=sys.stderr)
        return error.status
