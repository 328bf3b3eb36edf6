"""What insitu why costs a program of 200 threads that switches 100,000 times a second, and whether anything is lost.

A hundred pairs of threads pass a byte to and fro through pipes, and compute in between, so long that the CPUs of this
machine switch 100,000 times a second. Times with and without insitu are of runs by turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench._loads import compiled
from insitu.convert.sources import finish
from insitu.record.run import Request, record
from insitu.record.sources.processes import ProcessesSource
from insitu.record.sources.wall import WallSource

_RUNS = 5
_SWITCHES = 400_000
_RATE = 100_000
_TRIES = 3
_LOAD = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#define PAIRS 100
static int ends[PAIRS][2][2];
static long turns, work;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
__attribute__((noinline)) void compute(void) { for (volatile long i = 0; i < work; i++) {} }
static void *player(void *which)
{
    long pair = (long)which / 2, side = (long)which % 2;
    char byte = 0;
    for (long i = 0; i < turns; i++) {
        if (side == 0 && write(ends[pair][0][1], &byte, 1) != 1) { exit(1); }
        if (read(ends[pair][!side][0], &byte, 1) != 1) { exit(1); }
        compute();
        if (side == 1 && write(ends[pair][1][1], &byte, 1) != 1) { exit(1); }
    }
    return 0;
}
/* SWITCHES WORK FILE: writes seconds, CPU seconds and switches. */
int main(int argc, char **argv)
{
    pthread_t threads[2 * PAIRS];
    struct rusage used;
    turns = atol(argv[1]) / (2 * PAIRS);
    work = atol(argv[2]);
    for (int i = 0; i < 2 * PAIRS; i++) { if (pipe(ends[i / 2][i % 2])) { return 1; } }
    double begun = now();
    for (long i = 0; i < 2 * PAIRS; i++) { pthread_create(&threads[i], 0, player, (void *)i); }
    for (int i = 0; i < 2 * PAIRS; i++) { pthread_join(threads[i], 0); }
    double took = now() - begun;
    getrusage(RUSAGE_SELF, &used);
    FILE *out = fopen(argv[3], "w");
    fprintf(out, "%f %f %ld\\n", took, used.ru_utime.tv_sec + used.ru_stime.tv_sec
        + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6, used.ru_nvcsw + used.ru_nivcsw);
    return fclose(out);
}
"""


class _Load:
    def __init__(self, directory: Path) -> None:
        self._result = directory / "result"
        self._program = compiled(_LOAD, directory / "load", "-O1", "-pthread")
        self._work = 0
        cpu_s = self.alone()[1] / _SWITCHES
        self._work = 100_000
        per_unit_s = (self.alone(_SWITCHES // 20)[1] / (_SWITCHES // 20) - cpu_s) / self._work
        self._work = max(0, int((len(os.sched_getaffinity(0)) / _RATE - cpu_s) / per_unit_s))
        for _ in range(_TRIES):  # threads are preempted, too: those switches count as well
            elapsed_s, _, switches = self.alone()
            more_s = (1 / _RATE - elapsed_s / switches) * switches / _SWITCHES * len(os.sched_getaffinity(0))
            self._work = max(0, self._work + int(more_s / per_unit_s))

    def command(self, switches: int = _SWITCHES) -> tuple[str, ...]:
        return str(self._program), str(switches), str(self._work), str(self._result)

    def figures(self) -> list[float]:
        """Seconds, CPU seconds, and switches of the last run."""
        return [float(word) for word in self._result.read_text().split()]

    def alone(self, switches: int = _SWITCHES) -> list[float]:
        subprocess.run(self.command(switches), check=True)
        return self.figures()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        load = _Load(Path(directory))
        alone, recorded, lost = [], [], 0
        for number in range(_RUNS):
            alone.append(load.alone())
            session = Path(directory) / f"{number}.insitu"
            record(Request(load.command()), [WallSource(), ProcessesSource()], session, default_table="wall")
            recorded.append(load.figures())
            lost += finish(session).lost
        rate = statistics.median(switches / seconds for seconds, _, switches in alone)
        for at, what in enumerate(("elapsed", "CPU time")):
            before, after = (statistics.median(run[at] for run in runs) for runs in (alone, recorded))
            each_us = (after - before) / _SWITCHES * 1e6
            print(
                f"{what}: {before:.3f} s alone, {after:.3f} s with insitu why: {100 * (after / before - 1):+.1f} %,"
                f" {each_us:.2f} us a switch  [medians of {_RUNS}]"
            )
        print(f"{rate:,.0f} switches a second, {lost} lost")
