"""What a pair of malloc and free costs under insitu leaks --track: by the preloaded library, and by uprobes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Pairs alone, ten calls deep: the worst case. The program measures itself, and says how many ns a pair takes.
_PAIRS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static long pairs;
static __attribute__((noinline)) double deep(int depth) {
    volatile char room[48];
    room[0] = depth;
    if (depth)
        return deep(depth - 1) + room[1] * 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long at = 0; at < pairs; at++) {
        void *volatile block = malloc(40);
        free(block);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / pairs;
}
int main(int count, char **words) {
    pairs = atol(words[1]);
    printf("%.1f\n", deep(10));
}
"""
_RUNS = 5


def main() -> None:
    track = [sys.executable, "-m", "insitu", "leaks", "--track", "-q"]
    ways: dict[str, tuple[list[str], int]] = {
        "alone": ([], 20_000_000),
        "preloaded library": ([*track, "--preload", "--"], 2_000_000),
        "preloaded library, --stack 8K": ([*track, "--preload", "--stack", "8K", "--"], 2_000_000),
    }
    if not os.geteuid():
        ways["uprobes"] = ([*track, "--"], 100_000)
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as name:
        source, program = Path(name, "pairs.c"), Path(name, "pairs")
        source.write_text(_PAIRS)
        subprocess.run(["gcc", "-O2", "-w", "-fno-builtin", "-o", program, source], check=True)
        for what, (before, pairs) in ways.items():
            figures = sorted(_ns([*before, str(program), str(pairs)]) for _ in range(_RUNS))
            spread = f"{figures[0]:.0f} to {figures[-1]:.0f}"
            print(f"{what}: {figures[_RUNS // 2]:.0f} ns a pair of malloc and free ({spread})")


def _ns(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[0])
