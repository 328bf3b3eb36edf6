"""What recording calls of kernel functions costs the traced program, beside trace-cmd, in a lab guest.

A program writes to an eventfd as fast as it can; it measures its own CPU time. Both tools record the same functions
of it (function_graph with all that vfs_write calls; function with eventfd_write alone), by turns. Under emulation the
figures say how the tools compare, not what a CPU takes.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench._guests import mount_tracing, pass_on
from bench._loads import CPU_TIME, compiled
from bench._measure import INSITU
from bench._trace_cmd import record, recorded
from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch
from insitu.session.reader import Session

__all__ = ["main"]

_KERNEL = "6.12"
_RUNS = 3
_CALLS = 50_000
_BUFFER_KB = 16_384
_LOAD = f"""{CPU_TIME}
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
/* CALLS FILE: writes the seconds of CPU time that they took. */
int main(int argc, char **argv)
{{
    uint64_t one = 1;
    int fd = eventfd(0, 0), bad = 0;
    double since = cpu_s();
    for (long n = atol(argv[1]); n; n--) {{ bad |= write(fd, &one, sizeof one) != sizeof one; }}
    return bad | tell(argv[2], since);
}}
"""
# What is recorded: our words, trace-cmd's, our table, and what a line of trace-cmd report has for each of its rows.
_FORMS = {
    "-g vfs_write": (["-g", "vfs_write"], ["-p", "function_graph", "-g", "vfs_write"], "span", "funcgraph_entry"),
    "-f eventfd_write": (["-f", "eventfd_write"], ["-p", "function", "-l", "eventfd_write"], "event.function", ""),
}


def main() -> None:
    """Boot the guest; it prints for each form the slow-down under both, and what was recorded and lost."""
    fetch(_KERNEL)
    with guest(kernel=_KERNEL, cpus=2, memory="2G") as running:
        running.run([sys.executable, "-m", "bench.calls"], stdout=pass_on).check()


def inside() -> None:
    """What runs in the guest."""
    mount_tracing()
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as name:
        directory = Path(name)
        taken = directory / "seconds"
        load = [str(compiled(_LOAD, directory / "load")), str(_CALLS), str(taken)]
        for form, (ours, theirs, table, line) in _FORMS.items():
            seconds: dict[str, list[float]] = {"alone": [], "insitu": [], "trace-cmd": []}
            found = {}
            for _ in range(_RUNS):
                subprocess.run(load, check=True)
                seconds["alone"].append(float(taken.read_text()))
                run, file = directory / "run.insitu", directory / "trace.dat"
                words = [INSITU, "calls", "-q", *ours, "-b", f"{_BUFFER_KB}K", "-o", str(run), "--", *load]
                subprocess.run(words, check=True)
                seconds["insitu"].append(float(taken.read_text()))
                with Session(run) as session:
                    found["insitu"] = (session.manifest.tables[table]["rows"], session.manifest.lost)
                record(file, [], load, buffer_kb=_BUFFER_KB, tracer=theirs)
                seconds["trace-cmd"].append(float(taken.read_text()))
                found["trace-cmd"] = recorded(file, line)
            alone = statistics.median(seconds["alone"])
            print(f"{form}: {_CALLS:,} writes alone: {alone:.3f} s of CPU time", flush=True)
            for tool, (rows, lost) in found.items():
                median = statistics.median(seconds[tool])
                rate = f"{rows / median:,.0f} calls/s, {rows:,} recorded, {lost:,} lost"
                print(f"{tool:>10}: {median:.3f} s, {median / alone:.2f} times; {rate}", flush=True)


if __name__ == "__main__":
    inside()
