"""Run a script in bpftrace's language: compiled here to eBPF, loaded, attached; output as bpftrace prints it.

Words after the script, or after -e PROGRAM, are $1, $2 ...; --NAME=VALUE is an option of the script (getopt).
After -- comes a command to run; if its first word begins with a dash, all of it goes to the script instead.

Without a target, the whole machine is traced. With a command, only its process is, as with -p: not its children (but
ready programs follow all that the command starts).
With -a as well, the whole machine is traced while the command runs. begin, end, interval and iterators always run.

examples:
  insitu trace -e 'tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }'
  insitu trace -e 'uprobe:/bin/bash:readline { printf("%s\\n", comm); }' -d 10
  insitu trace -e 'tracepoint:syscalls:sys_enter_* { @[probe] = count(); }' -- ./prog args
  insitu trace -a -e 'tracepoint:sched:sched_process_exec { @[comm] = count(); }' -- make
  insitu trace opensnoop.bt            a file; or a built-in program: -l programs lists them
  insitu trace prog.bt -c './cmd args' trace CMD and end with it; cpid is its process
  insitu trace -a prog.bt -c 'sleep 5' trace the whole machine for 5 seconds, as -d 5 does
  insitu trace -l 'tracepoint:sched:*' list probes (-lv with their arguments); -l SCRIPT and -l -e PROGRAM, a script's
"""

import argparse

from insitu.commands import Properties
from insitu.commands._options import (
    duration_option,
    format_option,
    json_option,
    output_option,
    pids_named,
    quiet_option,
    recording_target_options,
)
from insitu.quick_imports import QuickImports

__all__ = ["PROPERTIES", "arguments", "run", "traced_process"]

PROPERTIES = Properties(
    starts_programs=True,
    command_after_dashes=True,
    foreign_options=True,
    peer_options={
        "-B": "output is written as it comes",
        "--usdt-file-activation": "not needed",
        "--info": "insitu doctor says what this kernel has",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    with QuickImports():
        from insitu.probe.passes import STAGES

    parser.add_argument("-e", "--expression", metavar="PROGRAM", help="the script itself, instead of a file")
    parser.add_argument("-l", "--list", action="store_true", help="list the probes of patterns (A,B) or of a script")
    parser.add_argument(
        "--programs", action="store_true", help="list the built-in programs by group (as -l programs does)"
    )
    parser.add_argument(
        "-c",
        "--command",
        metavar="CMD",
        help="run CMD, split as a shell does; trace it as after --, and end with it; see -a",
    )
    recording_target_options(
        parser,
        "restrict probes to",
        whole_system="trace the whole machine, while the command runs if one is given",
        one=True,
    )
    format_option(parser, ("text", "json"), "output format (default: text)", default="text")
    json_option(parser, "one JSON object for each event of emit() and each map, instead of text")
    output_option(parser, "write output to FILE; record a session if FILE ends in .insitu")
    duration_option(parser)
    quiet_option(parser, "no 'Attaching' line, no notes")
    parser.add_argument("-v", "--verbose", action="store_true", help="the verifier's log; with -l, argument types")
    parser.add_argument(
        "-k",
        "--runtime-warnings",
        action="count",
        dest="warns",
        help="warn of failed BPF helpers and missing keys",
    )
    parser.add_argument("--no-warnings", action="store_true", help="no warnings, also of division by zero")
    parser.add_argument(
        "--unsafe", action="store_true", help="allow system(), signal(), override(), debugf(), write_user()"
    )
    parser.add_argument(
        "--probe-filter", metavar="REGEX", help="attach only probes of these names (begin and end always)"
    )
    parser.add_argument(
        "--traceable-functions",
        metavar="FILE",
        help="kernel functions, instead of available_filter_functions",
    )
    parser.add_argument(
        "--debuginfo",
        metavar="DIR[:DIR]",
        action="append",
        help="also look for debug files there; relative ones from the binary's directory",
    )
    parser.add_argument(
        "-I",
        "--include-dir",
        dest="include_folders",
        metavar="DIR",
        action="append",
        default=[],
        help="look for C headers in DIR",
    )
    parser.add_argument(
        "--include", dest="includes", metavar="FILE", action="append", default=[], help="include a C header first"
    )
    trials = parser.add_mutually_exclusive_group()
    trials.add_argument(
        "--test", dest="trials", action="store_const", const="test", default="", help="run the script's test probes"
    )
    trials.add_argument(
        "--bench", dest="trials", action="store_const", const="bench", help="run and time its bench probes"
    )
    parser.add_argument("--dry-run", action="store_true", help="compile and load, but attach nothing")
    parser.add_argument("--no-cache", action="store_true", help="compile even if an earlier run's result is cached")
    parser.add_argument(
        "--dump",
        choices=STAGES,
        metavar="STAGE",
        help=f"print a stage of compilation instead of running: {', '.join(STAGES)}",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SCRIPT [ARG]",
        help="script and its positional parameters; its own options as --NAME=VALUE, or after --",
    )


def run(args: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    unused = [*args.foreign_options, *(args.after_dashes or [])]
    if unused and (args.programs or args.list):
        from insitu.errors import InsituError

        what = "unknown option" if unused[0].startswith("-") else "unexpected argument"
        raise InsituError(f"{what} {unused[0]}", remedy="see insitu trace --help", status=2)
    if args.programs or (args.list and args.words == ["programs"]):
        from insitu.probe.bpftrace.scripts import listed

        print(listed())
        return 0

    if args.debuginfo:
        from insitu.symbols.debug_files import also_look_in

        also_look_in(each for given in args.debuginfo for each in given.split(":"))
    if args.list:
        with QuickImports():  # and no garbage collection: all that is listed is kept to the end
            return _list(args)
    with QuickImports():
        from insitu.commands.trace_run import run_script
    return run_script(args)


def _list(args: argparse.Namespace) -> int:
    """List the probes of a script (-e, or a file), or those that match a pattern."""
    from insitu.probe.listing import list_probes, list_script

    pid = traced_process(args)
    words: list[str] = args.words
    if args.expression is not None or (words and _is_script(words[0])):
        from insitu.probe.options import Options
        from insitu.probe.source import Source

        if args.expression is not None:
            source = Source(args.expression, "-e")
        else:
            from insitu.probe.bpftrace.scripts import read_script

            source = read_script(words[0])
        options = Options.given(words if args.expression is not None else words[1:])
        options.apply_environment()
        return list_script(source, options, verbose=args.verbose, pid=pid)
    if len(words) > 1:
        from insitu.errors import InsituError

        raise InsituError(f"unexpected argument {words[1]}", remedy="quote the pattern", status=2)
    return list_probes(words[0] if words else "*", verbose=args.verbose, pid=pid)


def _is_script(word: str) -> bool:
    import os

    return word.endswith(".bt") or os.path.isfile(word)  # noqa: PTH113 - a start without pathlib


def traced_process(args: argparse.Namespace) -> int | None:
    """The process (perhaps of a thread that is given) of -p or -n. Raises InsituError unless it is one."""
    from insitu.errors import InsituError

    pids = tuple(args.pid or ())
    if args.comm is not None:
        pids += pids_named(args.comm)
    if len(pids) > 1:
        listed = ", ".join(map(str, pids[:8]))
        raise InsituError(f"trace takes one process, not {len(pids)}: {listed}", remedy="-p PID", status=2)
    if not pids:
        return None
    from insitu.record.run import processes_of

    return processes_of(pids)[0]
