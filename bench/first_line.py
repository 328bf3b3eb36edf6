"""Time from the start of `insitu trace NAME` to its first line, from the cache of programs: wall and CPU time.

Programs that this kernel has the events for, traced of one process that sleeps; those of a runtime, of a process of
that runtime. Programs that show the whole machine only are in guests (bench.programs starts them).
"""

import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from bench._measure import INSITU

__all__ = ["main"]

_REPEATS = 7
_AIM_MS = 250
_PAUSE_S = 2.0  # the kernel detaches what the run before had attached, which keeps others from attaching
_SLEEPER = [sys.executable, "-c", "import time; time.sleep(10000)"]
# How each is told the process.
_PARAMETER = (
    "execs",
    "fdleak",
    "forks",
    "futexes",
    "lockstat",
    "mallocs",
    "migrations",
    "offcpu",
    "runqlat",
    "schedlat",
    "signals",
    "timehist",
)
_PID = ("faults", "gethostlatency", "kmallocs", "mutexes", "opens", "pageallocs", "syscalls")


def main() -> None:
    """A line for each program: medians in milliseconds."""
    with subprocess.Popen(_SLEEPER) as target:
        try:
            for name in sorted(_PARAMETER + _PID):
                words = [INSITU, "trace", name, *(["-p"] if name in _PID else []), str(target.pid)]
                _first_line(words)  # compiles it
                runs = [_first_line(words) for _ in range(_REPEATS)]
                wall, cpu = (statistics.median(each) * 1000 for each in zip(*runs, strict=True))
                print(f"{name:<15} {wall:6.0f} ms, CPU time {cpu:5.0f} ms   aim {_AIM_MS}", flush=True)
        finally:
            target.kill()


def _first_line(words: Sequence[str]) -> tuple[float, float]:
    """Seconds of wall and CPU time until a tracer has written something. Raises SystemExit if it ends before."""
    begun = time.monotonic()
    # Modules that are not kept compiled would take as long as all else.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=kept) as tracer:
        assert tracer.stdout is not None
        select.select([tracer.stdout], [], [])
        wall = time.monotonic() - begun
        if not os.read(tracer.stdout.fileno(), 4096):
            raise SystemExit(f"{' '.join(words)} wrote nothing")
        with open(f"/proc/{tracer.pid}/schedstat") as file:  # noqa: PTH123
            cpu = int(file.read().split()[0]) / 1e9
        tracer.terminate()
        tracer.wait()
        time.sleep(_PAUSE_S)
        return wall, cpu


if __name__ == "__main__":
    main()
