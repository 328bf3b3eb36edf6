"""insitu stat beside perf stat: how long true(1) takes under it, and what a program that forks pays."""

import os
import statistics
import tempfile
from pathlib import Path

from bench._loads import compiled
from bench._measure import INSITU, Cost, once

_RUNS = 15
_EVENTS = "task-clock,context-switches,cpu-migrations,page-faults"
_FORKS = """
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (int n = atoi(argv[1]); n; n--) {
        if (!fork()) _exit(0);
        wait(NULL);
    }
}
"""


def _beside(what: str, command: list[str]) -> None:
    """Print medians of the command alone and counted by each, in ms, and the ratio of what counting adds."""
    forms = {
        "alone": command,
        "insitu": [INSITU, "stat", "-e", _EVENTS, "--", *command],
        "perf": ["perf", "stat", "-e", _EVENTS, "--", *command],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in forms}
    for _ in range(_RUNS):
        for name, words in forms.items():
            costs[name].append(once(words))
    wall = {name: statistics.median(cost.wall_s for cost in taken) * 1000 for name, taken in costs.items()}
    ours, peers = wall["insitu"] - wall["alone"], wall["perf"] - wall["alone"]
    print(
        f"{what}: alone {wall['alone']:.1f} ms, insitu stat {wall['insitu']:.1f} ms, perf stat {wall['perf']:.1f} ms:"
        f" counting adds {ours:.1f} and {peers:.1f} ms  [ratio {ours / peers:.1f}, of the whole "
        f"{wall['insitu'] / wall['perf']:.2f}; medians of {_RUNS}]",
        flush=True,
    )


def main() -> None:
    """Both programs."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed insitu is compiled
    _beside("true", ["true"])
    with tempfile.TemporaryDirectory() as directory:
        program = compiled(_FORKS, Path(directory) / "forks")
        _beside("2,000 forks", [str(program), "2000"])


if __name__ == "__main__":
    main()
