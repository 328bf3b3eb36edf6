"""One module per command, named as users type it: parse arguments, call, render. Nothing else.

A command module offers ``arguments(parser)``, which declares its options, and ``run(args)``,
which returns the exit status. It is imported only when that command runs, and imports numpy and
heavier libraries only inside ``run``, so that ``--help`` answers at once.
"""

__all__ = ["COMMANDS"]

# Name, as typed -> the line that `insitu --help` shows. The module is insitu.commands.NAME (import_ for import).
COMMANDS: dict[str, str] = {
    "profile": "record where the CPU time of a program, a process or the machine goes",
    "report": "hottest functions, call tree and threads of a recording, in the terminal",
    "flame": "flame graph of a recording: one HTML page that works offline",
    "heatmap": "subsecond-offset heat map; select a range to see its flame graph",
    "callgraph": "who calls whom, as a graph (SVG or DOT)",
    "diff": "what grew and what shrank between two recordings",
    "sql": "ask a recording in SQL (DuckDB); a prompt when no query is given",
    "import": "make a session from perf.data or folded stacks",
    "export": "folded stacks, speedscope, pprof or DOT from a session",
    "trace": "run a program in the probe language (bpftrace's), compiled here to eBPF",
    "lab": "run anything under any kernel, in a throw-away guest",
    "doctor": "what this kernel, machine and user can do, and how to get the rest",
    "completion": "print a shell completion script (bash, zsh, tcsh)",
}
