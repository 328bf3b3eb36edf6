"""Time whole commands, one's runs interleaved with the other's, so that both see the same machine."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

INSITU = str(Path(sys.executable).with_name("insitu"))


class Cost(NamedTuple):
    """One run: elapsed and CPU seconds, peak memory in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def once(command: Sequence[str], output: str = os.devnull) -> Cost:
    """Run a command with its output thrown away (or kept in ``output``); it must succeed."""
    with open(output, "wb") as sink:  # noqa: PTH123
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(what: str, ours: Sequence[str], peer: Sequence[str], runs: int = 5) -> float:
    """Print median wall times of both commands and how many times faster ours is; returns that."""
    costs = [(once(ours), once(peer)) for _ in range(runs)]
    mine = statistics.median(cost.wall_s for cost, _ in costs)
    theirs = statistics.median(cost.wall_s for _, cost in costs)
    peak = max(cost.peak_mib for cost, _ in costs)
    cpu, their_cpu = (statistics.median(each.cpu_s for each in side) for side in zip(*costs, strict=True))
    print(
        f"{what}: insitu {mine:.3f} s ({cpu:.3f} s of CPU, {peak:.0f} MiB), peer {theirs:.3f} s ({their_cpu:.3f}):"
        f" {theirs / mine:.2f} times faster"
        f"  [medians of {runs}; {' '.join(map(os.path.basename, ours[:1]))} {' '.join(ours[1:])} | {' '.join(peer)}]",
        flush=True,
    )
    return theirs / mine
