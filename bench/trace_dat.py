"""From a trace.dat of 5 million events to the number of each event, against trace-cmd report > /dev/null.

Ours reads the whole file into tables and counts their rows; trace-cmd prints every event.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from bench._measure import INSITU, compare

_EVENTS = 5_000_000
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
_LOADS = {
    "system calls": (["raw_syscalls"], ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={_EVENTS // 4}"]),
    "switches": (["sched"], ["perf", "bench", "sched", "pipe", "-l", f"{_EVENTS // 10}"]),
}


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed insitu is compiled
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        for what, (events, load) in _LOADS.items():
            path = str(Path(directory, f"{what.split()[0]}.dat"))
            chosen = [word for event in events for word in ("-e", event)]
            command = [path, "--compression", "none", "-b", "40000", *chosen, "-F", "-c", *load]
            subprocess.run(
                ["unshare", "-m", "sh", "-c", _RECORD, "record", *command],
                cwd=directory,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            rows = subprocess.run(
                [INSITU, "import", path, "-o", f"{path}.insitu"], check=True, stderr=subprocess.PIPE
            )
            print(f"{what}: {rows.stderr.decode().strip()}, {Path(path).stat().st_size >> 20} MiB")
            compare(
                "  to the number of each event", [INSITU, "sql", path, ".tables"], ["trace-cmd", "report", path], 3
            )
