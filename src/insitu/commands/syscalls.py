"""Show the system calls of a program: strace's output and options, by eBPF or ptrace.

Lines go to standard error, as strace's do, or to -o FILE; --json goes to standard output. Children and threads are
followed. A session instead of a command is printed with the same options. The exit status is the command's.

examples:
  insitu syscalls ls -l                           each call as it is made
  insitu syscalls -e trace=%file,!close ./prog    calls that take a file name
  insitu syscalls -Z -P /etc/prog.conf ./prog     failed calls on this file
  insitu syscalls -c -p 1234 -d 10                a summary of ten seconds of a process
  insitu syscalls --slower 10ms -a                slow calls of the whole machine
  insitu syscalls -e inject=openat:error=ENOENT:when=3+ ./prog    the third openat and later ones fail
  insitu syscalls --filter 'fd.name contains /etc and evt.latency > 1ms' ./prog
  insitu syscalls -o run.insitu ./prog            record a session; insitu syscalls run.insitu prints it
"""

import argparse

from insitu.commands import Properties
from insitu.commands._completions import FILTER_COMPLETION
from insitu.commands._options import count, duration, duration_option, json_option, output_option, pid_list

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    peer_options={
        "-b": "the new program is traced too; insitu detaches at Ctrl-C, or after -d SECONDS",
        "--detach-on": "the new program is traced too; insitu detaches at Ctrl-C, or after -d SECONDS",
        "-D": "insitu is the command's parent; start it with setsid in the background instead",
        "--daemonize": "insitu is the command's parent; start it with setsid in the background instead",
        "-i": "use -k, which shows the stack of each call",
        "--instruction-pointer": "use -k, which shows the stack of each call",
        "-I": "Ctrl-C ends tracing, a second one leaves the command running",
        "--interruptible": "Ctrl-C ends tracing, a second one leaves the command running",
        "-O": "nothing is subtracted from the times of -c",
        "--summary-syscall-overhead": "nothing is subtracted from the times of -c",
        "-u": "start the command through su, runuser or setpriv",
        "--user": "start the command through su, runuser or setpriv",
        "--attach": "use -p PID",
        "-Y": "--json and sessions have the names of threads",
        "--decode-pids": "--json and sessions have the names of threads",
        "--kvm": "insitu trace has the kernel's tracepoints of kvm",
        "--tips": "see insitu help syscalls",
    },
)

# strace's long forms of -e NAME=.
_QUALIFIERS = ("trace", "signal", "status", "abbrev", "raw", "read", "write", "inject", "fault", "decode-fds")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _target(parser)
    _selection(parser)
    _lines(parser)
    _summary(parser)
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND | RUN", help="run and trace this, or print a session"
    )


def _target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("target and engine")
    group.add_argument("-p", "--pid", type=pid_list, action="append", metavar="PID[,PID]", help="running processes")
    group.add_argument("-n", "--comm", metavar="NAME", help="running processes of this name (strace's -n: -N)")
    group.add_argument("-a", "--all", action="store_true", help="the whole machine (strace's -a: --columns)")
    duration_option(parser)
    group.add_argument(
        "-E",
        "--env",
        action="append",
        default=[],
        metavar="VAR[=VALUE]",
        help="set (or unset) a variable for the command",
    )
    group.add_argument(
        "-f",
        "--follow-forks",
        action="count",
        default=0,
        help="accepted: children are always followed; -ff also writes FILE.TID for each thread",
    )
    group.add_argument("--output-separately", action="store_true", help="write FILE.TID for each thread")
    group.add_argument(
        "--backend",
        choices=("auto", "bpf", "ptrace"),
        default="auto",
        help="eBPF or ptrace (default: eBPF where privileges and kernel allow it and nothing is injected)",
    )
    group.add_argument(
        "--seccomp-bpf",
        action="store_true",
        help="ptrace: only selected calls stop the command; it is killed if insitu is",
    )


def _selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which calls")
    group.add_argument(
        "-e",
        "--expression",
        dest="expressions",
        action="append",
        default=[],
        metavar="EXPR",
        help="trace=SET (or SET), signal=, status=, inject=, fault=, abbrev=, raw=, read=, write=, quiet= ...;"
        " a SET is names, %%file and the like, /regex, ! for not",
    )
    for name in _QUALIFIERS:
        group.add_argument(
            f"--{name}",
            dest="expressions",
            action="append",
            type=f"{name}={{}}".format,
            metavar="SET",
            help=argparse.SUPPRESS,
        )
    group.add_argument("-P", "--trace-path", action="append", default=[], metavar="PATH", help="calls on this file")
    status = group.add_mutually_exclusive_group()
    status.add_argument("-z", "--successful-only", action="store_true", help="calls that succeed")
    status.add_argument("-Z", "--failed-only", action="store_true", help="calls that fail")
    group.add_argument("--slower", type=duration, metavar="TIME", help="calls that take longer, such as 10ms")
    group.add_argument(
        "--off-cpu", action="store_true", help="with -o RUN.insitu: also when and where threads wait (eBPF)"
    )
    expression = group.add_argument(
        "--filter",
        metavar="EXPR",
        help="calls that match, in sysdig's language: 'proc.name = cat and evt.latency > 1ms'; 'list': the fields",
    )
    expression.complete = FILTER_COMPLETION  # type: ignore[attr-defined]  # what shtab asks for


def _lines(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    output_option(
        parser, "write to FILE, or to '|COMMAND'; record a session if FILE ends in .insitu or is a directory"
    )
    group.add_argument("-A", "--output-append-mode", dest="append", action="store_true", help="append to -o FILE")
    json_option(group, "a line of JSON per call, signal and exit, on standard output")
    group.add_argument("-q", "--quiet", action="count", default=0, help="no messages; -qq: no exits; -qqq: neither")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="show structures whole, and say which engine is used"
    )
    group.add_argument(
        "-s", "--string-limit", type=count, default=32, metavar="N", help="at most N bytes of a string (%(default)s)"
    )
    group.add_argument(
        "-x",
        "--hex",
        dest="hexadecimal",
        action="count",
        default=0,
        help="strings that are not ASCII in hex; -xx: all",
    )
    group.add_argument(
        "-X",
        "--const-print-style",
        choices=("raw", "abbrev", "verbose"),
        default="abbrev",
        help="how constants are shown",
    )
    group.add_argument(
        "-y",
        "--descriptors",
        action="count",
        default=0,
        help="what descriptors are open on; -yy: with addresses of sockets",
    )
    group.add_argument("-k", "--stack-traces", action="store_true", help="the stack of each call")
    group.add_argument("-N", "--syscall-number", action="store_true", help="the number of each call (strace's -n)")
    group.add_argument(
        "-t",
        "--timestamps",
        dest="absolute",
        action="count",
        default=0,
        help="time of day; -tt: microseconds; -ttt: since 1970",
    )
    group.add_argument("--absolute-timestamps", metavar="FORMAT", help="time or unix, and s, ms, us or ns: unix,ns")
    group.add_argument("-r", "--relative", action="store_true", help="time since the line before")
    group.add_argument("--relative-timestamps", choices=_PRECISIONS, help="the same, as precise as this")
    group.add_argument("-T", "--call-times", dest="times", action="store_true", help="how long each call took")
    group.add_argument("--syscall-times", choices=_PRECISIONS, help="the same, as precise as this")
    group.add_argument("--columns", type=_column, default=40, metavar="N", help="align results there (%(default)s)")


_MOST_COLUMNS = 4096


def _column(text: str) -> int:
    number = count(text)
    if number > _MOST_COLUMNS:
        raise argparse.ArgumentTypeError(f"must be at most {_MOST_COLUMNS}, not {text}")
    return number


_PRECISIONS = ("s", "ms", "us", "ns")


def _summary(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("summary")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("-c", "--summary-only", action="store_true", help="count calls, errors and time instead")
    kind.add_argument("-C", "--summary", action="store_true", help="besides")
    group.add_argument(
        "-S",
        "--summary-sort-by",
        default="time",
        metavar="COLUMN",
        help="time, calls, errors, name, max-time, p99 ...",
    )
    group.add_argument(
        "-U", "--summary-columns", metavar="COLUMNS", help="which columns: time-percent, total-time, min-time ..."
    )
    group.add_argument(
        "-w",
        "--summary-wall-clock",
        action="store_true",
        help="latencies instead of time on a CPU, which the ptrace engine lacks",
    )


def run(args: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    from insitu.quick_imports import QuickImports

    with QuickImports():
        from insitu.commands.syscalls_run import run_syscalls
    return run_syscalls(args)
