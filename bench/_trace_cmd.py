"""trace-cmd beside us, in a mount namespace of its own: tracefs is mounted there alone."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["record"]

# trace-cmd writes settings that a kernel may refuse to everybody (lockdown), though it does not need them here.
_RECORD = """
T=/sys/kernel/tracing
mountpoint -q $T || mount -t tracefs tracefs $T
for file in /proc/sys/kernel/ftrace_enabled $T/set_ftrace_pid $T/set_ftrace_filter $T/set_ftrace_notrace; do
    [ ! -e $file ] || { echo 1 > plain && mount --bind plain $file; }
done
cat /proc/kallsyms > kallsyms && mount --bind kallsyms /proc/kallsyms  # which changes with every BPF program
exec trace-cmd record -q -o "$@"
"""


def record(path: Path, events: Sequence[str], load: Sequence[str], *, buffer_kb: int) -> str:
    """Record a command with trace-cmd into a trace.dat at ``path``; returns what both printed."""
    chosen = [word for event in events for word in ("-e", event)]
    command = [str(path), "--compression", "none", "-b", str(buffer_kb), *chosen, "-F", "-c", *load]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _RECORD, "record", *command],
        cwd=path.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout
