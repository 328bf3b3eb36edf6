"""trace-cmd beside us, in a mount namespace of its own: tracefs is mounted there alone."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["record", "recorded"]

# trace-cmd writes settings that a kernel may refuse to everybody (lockdown), though it does not need them here.
_RECORD = """
T=/sys/kernel/tracing
mountpoint -q $T || mount -t tracefs tracefs $T
[ "$0" = tracer ] ||
for file in /proc/sys/kernel/ftrace_enabled $T/set_ftrace_pid $T/set_ftrace_filter $T/set_ftrace_notrace; do
    [ ! -e $file ] || { echo 1 > plain && mount --bind plain $file; }
done
cat /proc/kallsyms > kallsyms && mount --bind kallsyms /proc/kallsyms  # which changes with every BPF program
exec trace-cmd record -q -o "$@"
"""


def record(
    path: Path, events: Sequence[str], load: Sequence[str], *, buffer_kb: int, tracer: Sequence[str] = ()
) -> str:
    """Record a command with trace-cmd into a trace.dat at ``path``; returns what both printed.

    ``tracer`` are the words for a tracer, on kernels that have it: they must allow those settings.
    """
    chosen = [word for event in events for word in ("-e", event)]
    command = [str(path), "--compression", "none", "-b", str(buffer_kb), *chosen, *tracer, "-F", "-c", *load]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _RECORD, "tracer" if tracer else "events", *command],
        cwd=path.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def recorded(path: Path, name: str) -> tuple[int, int]:
    """How many events of a trace.dat have ``name`` in their line (empty: all), and how many were lost."""
    report = ["trace-cmd", "report", str(path)]
    lines = subprocess.run(report, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    stat = subprocess.run([*report[:2], "--stat", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    lost = [line.partition(":")[2].strip() for line in stat.splitlines() if line.strip().startswith("overrun:")]
    found = sum(b"]" in line and name.encode() in line for line in lines.splitlines())
    return found, sum(int(number) for number in lost if number.isdecimal())
