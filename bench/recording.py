"""What recording costs: CPU time of our recorder against perf record's, at 999 Hz on a parallel compile job.

Both attach to a shell that is held back, then runs the job and stays, so that the recorder's own CPU time can be read
(from the scheduler, in nanoseconds) before it is asked to finish. The workload's time is in neither figure.
"""

import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import insitu
from bench._measure import INSITU
from insitu.session.manifest import Manifest

_FILES = 150
_ROUNDS = 3
_FREQUENCY = "999"

_SOURCE = """
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { struct node *left, *right; int key; double value[8]; };
static struct node *insert_N(struct node *n, int key) {
    if (!n) { n = calloc(1, sizeof *n); n->key = key; return n; }
    if (key < n->key) n->left = insert_N(n->left, key); else n->right = insert_N(n->right, key);
    for (int i = 0; i < 8; i++) n->value[i] = sqrt(n->value[(i + 1) % 8] + key * i);
    return n;
}
static void print_N(const struct node *n, int depth) {
    char line[256];
    if (!n) return;
    print_N(n->left, depth + 1);
    for (int i = 0; i < 8; i++) { snprintf(line, sizeof line, "%*d %g", depth, n->key, n->value[i]); puts(line); }
    print_N(n->right, depth + 1);
}
int run_N(int argc) {
    struct node *r = 0;
    for (int i = 0; i < argc; i++) r = insert_N(r, i * 7919 % 1000);
    print_N(r, 0);
    return r ? r->key : 0;
}
"""


class Cost(NamedTuple):
    """CPU seconds while recording and for finishing, samples kept and records lost."""

    recording_s: float
    finishing_s: float
    samples: int
    lost: int


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        here = Path(directory)
        for number in range(_FILES):
            (here / f"f{number}.c").write_text(_SOURCE.replace("_N", f"_{number}"))
        objects = " ".join(f"f{number}.o" for number in range(_FILES))
        (here / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tgcc -O2 -c $< -o $@\n")
        for ours, theirs in (("fp", ["-g"]), ("dwarf", ["--call-graph", "dwarf"])):
            _compare(here, ours, theirs)


def _compare(here: Path, stacks: str, call_graph: Sequence[str]) -> None:
    """Record the job by turns, and print both costs and their ratios."""
    costs: dict[str, list[Cost]] = {"insitu": [], "perf": []}
    session, data = str(here / "x.insitu"), str(here / "perf.data")
    for _ in range(_ROUNDS):
        own = _recorded([INSITU, "profile", "-q", "-F", _FREQUENCY, "--stacks", stacks, "-o", session, "-p"], here)
        costs["insitu"].append(Cost(*own, *_ours(session)))
        event = ["-e", "cpu-clock"] if _has_no_pmu(session) else []
        peers = _recorded(["perf", "record", *event, *call_graph, "-F", _FREQUENCY, "-o", data, "-p"], here)
        costs["perf"].append(Cost(*peers, *_perfs(data)))
    print(
        f"make -j2 of {_FILES} C files at {_FREQUENCY} Hz, {stacks} stacks, medians of {_ROUNDS};"
        " the recorder's own CPU seconds"
    )
    ours, theirs = _median("insitu", costs["insitu"]), _median("perf", costs["perf"])
    whole = (ours.recording_s + ours.finishing_s) / (theirs.recording_s + theirs.finishing_s)
    print(
        f"  insitu / perf: recording {ours.recording_s / theirs.recording_s:.2f}, with finishing {whole:.2f}"
        "  (insitu's finishing symbolizes and indexes, perf's does not)",
        flush=True,
    )


def _median(name: str, rounds: list[Cost]) -> Cost:
    """Print and return the medians of one recorder's rounds."""
    cost = Cost(*(statistics.median(column) for column in zip(*rounds, strict=True)))
    print(
        f"  {name:6}  recording {cost.recording_s:.3f}  finishing {cost.finishing_s:.3f}"
        f"  samples {cost.samples:.0f}  lost {cost.lost:.0f}"
    )
    return cost


def _recorded(recorder: Sequence[str], here: Path) -> tuple[float, float]:
    """Record one job: CPU seconds of the recorder until the job is done, and from then to its own end."""
    for made in here.glob("*.o"):
        made.unlink()
    shell = subprocess.Popen(
        ["sh", "-c", "read go; make -s -j2; echo done; read stop"],
        cwd=here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdin
    assert shell.stdout
    process = subprocess.Popen([*recorder, str(shell.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)  # attached by then
    shell.stdin.write("go\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "done\n"
    recording = _cpu_seconds(process.pid)
    process.send_signal(signal.SIGINT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    shell.communicate("stop\n")
    return recording, usage.ru_utime + usage.ru_stime - recording


def _cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used (Documentation/scheduler/sched-stats.rst)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _ours(session: str) -> tuple[int, int]:
    manifest = Manifest.read(Path(session))
    return manifest.tables["sample"]["rows"], manifest.lost


def _has_no_pmu(session: str) -> bool:
    with insitu.open(session) as opened:
        return bool(opened.sql("select name from event_type").item() == "cpu-clock")


def _perfs(data: str) -> tuple[int, int]:
    stats = subprocess.run(["perf", "report", "--stats", "-i", data], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^\s+(\w+) events:\s+(\d+)", stats, re.MULTILINE))
    return int(found["SAMPLE"]), int(found.get("LOST", 0)) + int(found.get("LOST_SAMPLES", 0))
