"""From a trace.dat of 5 million events to the number of each event, against trace-cmd report > /dev/null.

Ours reads the whole file into tables and counts their rows; trace-cmd prints every event.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from bench._measure import INSITU, compare
from bench._trace_cmd import record

_EVENTS = 5_000_000
_LOADS = {
    "system calls": (["raw_syscalls"], ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={_EVENTS // 4}"]),
    "switches": (["sched"], ["perf", "bench", "sched", "pipe", "-l", f"{_EVENTS // 8}"]),
}


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed insitu is compiled
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        for what, (events, load) in _LOADS.items():
            path = str(Path(directory, f"{what.split()[0]}.dat"))
            record(Path(path), events, load, buffer_kb=40_000)
            rows = subprocess.run(
                [INSITU, "import", path, "-o", f"{path}.insitu"], check=True, stderr=subprocess.PIPE
            )
            print(f"{what}: {rows.stderr.decode().strip()}, {Path(path).stat().st_size >> 20} MiB")
            compare(
                "  to the number of each event", [INSITU, "sql", path, ".tables"], ["trace-cmd", "report", path], 3
            )
