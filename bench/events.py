"""What recording trace events costs the traced program, beside trace-cmd, and what is lost.

A program makes system calls as fast as it can: two events each, some millions a second. It measures its own CPU time,
so that nothing counts that either tool does before or after it, or on the other CPUs. Runs are by turns.
"""

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench._measure import INSITU
from bench._trace_cmd import record

_RUNS = 5
_CALLS = 1_000_000
_BUFFER_KB = 32_768
_LOAD = """
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* CALLS FILE: writes the seconds of CPU time that they took. */
int main(int argc, char **argv)
{
    struct timespec begin, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    for (long n = atol(argv[1]); n; n--) { syscall(SYS_getppid); }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    FILE *out = fopen(argv[2], "w");
    fprintf(out, "%f\\n", end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9);
    return fclose(out);
}
"""


def main() -> None:
    """Print a line for each tool: the slow-down, and the events that were recorded and lost."""
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as name:
        directory = Path(name)
        (directory / "load.c").write_text(_LOAD)
        subprocess.run(["gcc", "-O1", "-o", directory / "load", directory / "load.c"], check=True)
        taken = directory / "seconds"
        load = [str(directory / "load"), str(_CALLS), str(taken)]
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
    manifest = json.loads((run / "session.json").read_text())
    tables = manifest["tables"]
    rows = sum(table["rows"] for name, table in tables.items() if name.startswith("event."))
    lost = subprocess.run(
        [INSITU, "sql", run, "--format", "csv", "select coalesce(sum(count), 0) from lost"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()[-1]
    return f"{rows:,} recorded, {lost} lost"


def _theirs(file: Path) -> str:
    command = ["trace-cmd", "report", "--stat", str(file)]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    words = [line.split(":") for line in report.splitlines() if ":" in line]
    entries = sum(int(value) for name, value in words if name.strip() == "entries" and value.strip().isdecimal())
    overrun = sum(int(value) for name, value in words if name.strip() == "overrun" and value.strip().isdecimal())
    return f"{entries:,} left in the buffer, {overrun} lost"


if __name__ == "__main__":
    main()
