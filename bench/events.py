"""What recording trace events costs the traced program, beside trace-cmd, and what is lost.

A program makes system calls as fast as it can: two events each, some millions a second. It measures its own CPU time,
so that nothing counts that either tool does before or after it, or on the other CPUs. Runs are by turns.
"""

import statistics
import subprocess
import tempfile
from pathlib import Path

from bench._loads import CPU_TIME, compiled
from bench._measure import INSITU
from bench._trace_cmd import record
from insitu.session.reader import Session

_RUNS = 5
_CALLS = 1_000_000
_BUFFER_KB = 32_768
_LOAD = f"""{CPU_TIME}
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
/* CALLS FILE: writes the seconds of CPU time that they took. */
int main(int argc, char **argv)
{{
    double since = cpu_s();
    for (long n = atol(argv[1]); n; n--) {{ syscall(SYS_getppid); }}
    return tell(argv[2], since);
}}
"""


def main() -> None:
    """Print a line for each tool: the slow-down, and the events that were recorded and lost."""
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as name:
        directory = Path(name)
        taken = directory / "seconds"
        load = [str(compiled(_LOAD, directory / "load")), str(_CALLS), str(taken)]
        run = directory / "run.insitu"
        ours = [INSITU, "events", "-q", "-e", "raw_syscalls:*", "-b", f"{_BUFFER_KB}K", "-o", str(run), "--", *load]
        seconds: dict[str, list[float]] = {"alone": [], "insitu": [], "trace-cmd": []}
        found = {"insitu": "", "trace-cmd": ""}
        for _ in range(_RUNS):
            subprocess.run(load, check=True)
            seconds["alone"].append(float(taken.read_text()))
            subprocess.run(ours, check=True)
            seconds["insitu"].append(float(taken.read_text()))
            found["insitu"] = _ours(run)
            file = directory / "trace.dat"
            record(file, ["raw_syscalls"], load, buffer_kb=_BUFFER_KB)
            seconds["trace-cmd"].append(float(taken.read_text()))
            found["trace-cmd"] = _theirs(file)
        alone = statistics.median(seconds["alone"])
        print(f"{_CALLS:,} system calls alone: {alone:.3f} s of CPU time")
        cost = {tool: statistics.median(seconds[tool]) - alone for tool in found}
        for tool, what in found.items():
            print(f"{tool:>10}: {cost[tool] / (2 * _CALLS) * 1e9:.0f} ns for each event; {what}")
        print(f"     ratio: {cost['insitu'] / cost['trace-cmd']:.2f} of trace-cmd's cost")


def _ours(run: Path) -> str:
    with Session(run) as session:
        rows = sum(table["rows"] for name, table in session.manifest.tables.items() if name.startswith("event."))
        return f"{rows:,} recorded, {session.manifest.lost} lost"


def _theirs(file: Path) -> str:
    command = ["trace-cmd", "report", "--stat", str(file)]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    words = [line.split(":") for line in report.splitlines() if ":" in line]
    entries = sum(int(value) for name, value in words if name.strip() == "entries" and value.strip().isdecimal())
    overrun = sum(int(value) for name, value in words if name.strip() == "overrun" and value.strip().isdecimal())
    return f"{entries:,} left in the buffer, {overrun} lost"


if __name__ == "__main__":
    main()
