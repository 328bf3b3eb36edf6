"""One module per command: it declares options, calls and hands the result to a view. Nothing else.

A command's module has the name that users type (``import_`` for import). It offers ``arguments(parser)``, which
declares its options, and ``run(args)``, which returns the exit status; a ``PROPERTIES`` states where it differs from
most. Only the module of the command that runs is imported, and it imports numpy and heavier libraries inside ``run``,
so that every ``--help`` takes less than 80 ms. What commands share is in modules that begin with an underscore.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["COMMANDS", "PEER_COMMANDS", "Properties"]

# Name, as typed -> the line that `insitu --help` shows.
COMMANDS: dict[str, str] = {
    "why": "why it is slow: where all wall time goes, on the CPU and waiting, in words and figures",
    "profile": "record where the CPU time of a program, a process or the machine goes",
    "stat": "count events of a program, a process or the machine; compare two programs",
    "report": "hottest functions, call tree and threads of a recording, in the terminal",
    "flame": "flame graph of a recording: one HTML page that works offline",
    "heatmap": "subsecond-offset heat map; select a range to see its flame graph",
    "timeline": "what every thread and CPU did when, and why a thread did not run: one HTML page",
    "callgraph": "who calls whom, as a graph (SVG or DOT)",
    "diff": "what grew and what shrank between two recordings",
    "sql": "query a recording in SQL (DuckDB); a prompt when no query is given",
    "import": "make a session from perf.data, perf script, trace.dat, ftrace or folded stacks",
    "export": "a session for Perfetto, Chrome, pprof, speedscope, trace-cmd, Graphviz or flamegraph.pl",
    "trace": "run a script in bpftrace's language, compiled here to eBPF",
    "calls": "calls of functions of the kernel, of a program or of its libraries: durations, self times, callers",
    "events": "trace events of the kernel: print them, or record them",
    "delays": "what delays processes: CPU, I/O, swap, memory; and pressure (PSI)",
    "syscalls": "system calls of a program, as strace shows them, at a fraction of the cost",
    "dyndbg": "the kernel's dynamic debug messages: list, switch on, follow, and put back",
    "latency": "the longest latencies and where they come from: interrupts off, wakeups, noise, timers, firmware",
    "sysctl": "kernel settings with their documentation; which differ from the defaults or another machine",
    "proc": "one process: its open descriptors and how near the limit, memory, rights; what grows",
    "stacks": "what every thread of a process does now, and which waits for which: stacks, deadlocks",
    "guard": "catch the access that corrupts the heap, at the instruction that does it; watch writes of an address",
    "leaks": "which memory a running process has lost, and what keeps the rest alive",
    "cache": "how much of files is in the page cache, and where in them; evict, touch, lock and watch",
    "top": "what the machine and its processes do now, on one live screen",
    "lab": "run anything under any kernel, in a throw-away guest",
    "doctor": "what this kernel, machine and user can do, and how to get the rest",
    "completion": "print a shell completion script (bash, zsh, tcsh)",
}

# Commands of perf, trace-cmd and the like -> what to use instead.
PEER_COMMANDS: dict[str, str] = {
    "record": "insitu profile records samples, insitu trace events",
    "annotate": "insitu report --lines shows the hottest source lines",
    "script": "insitu report --folded prints stacks, insitu sql the samples",
    "list": "insitu profile -e list, or insitu trace -l",
    "probe": "insitu trace attaches probes by itself: insitu trace -l lists them",
    "sched": "insitu trace schedlat (latency) and timehist, or insitu profile --off-cpu",
    "strace": "insitu syscalls takes strace's options",
    "bpftrace": "insitu trace runs bpftrace's scripts",
    "show": "insitu report",
    "view": "insitu report, or insitu flame",
    "flamegraph": "insitu flame",
    "convert": "insitu import, insitu export",
    "run": "insitu profile -- COMMAND, or insitu lab run",
}


class Properties(NamedTuple):
    """How a command's words are read and what it needs; a module without ``PROPERTIES`` has these defaults."""

    starts_programs: bool = False
    """It starts users' programs, which must find the environment as it was."""
    command_after_dashes: bool = False
    """What follows the first ``--`` is not parsed: it becomes ``args.after_dashes``."""
    words_follow: bool = False
    """The first word that is not an option belongs to a program or a subcommand, and so does all after it."""
    program_option: str = ""
    """An option whose value is a program: all that follows it belongs to the program."""
    foreign_options: bool = False
    """``--NAME`` and ``--NAME=VALUE`` that it does not declare are collected in ``args.foreign_options``."""
    peer_options: Mapping[str, str] = MappingProxyType({})
    """Options of perf, FlameGraph or bpftrace that it does not have -> what to use instead."""
