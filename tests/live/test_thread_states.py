"""States of threads of recorded switches, against what the kernel counts itself: schedstat."""

import subprocess
import sys
from pathlib import Path

from insitu.session.reader import Session

# Works and sleeps; says its times and the kernel's counts before and after: ns on a CPU, ns waiting for one, turns.
_PROGRAM = """
import os, time
def counts():
    time.sleep(0.001)  # the kernel adds up the time on a CPU when that ends, or at a tick
    return [time.monotonic_ns(), *map(int, open("/proc/self/schedstat").read().split())]
before = counts()
for _ in range(50):
    sum(range(20_000))
    time.sleep(0.001)
print(os.getpid(), *before, *counts())
"""


def test_times_and_turns_of_a_thread_are_those_that_the_kernel_counts(tmp_path: Path) -> None:
    path = tmp_path / "run.insitu"
    events = ["-e", "sched:sched_switch", "-e", "sched:sched_waking"]
    command = [
        sys.executable,
        "-m",
        "insitu",
        "events",
        "-q",
        *events,
        "-o",
        path,
        "--",
        sys.executable,
        "-c",
        _PROGRAM,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    tid, begin, ran0, waited0, turns0, end, ran1, waited1, turns1 = map(int, done.stdout.split())
    with Session(path) as session:
        rows = session.sql(
            "select state, sum(least(coalesce(ts_ns + dur_ns, $end), $end) - greatest(ts_ns, $begin))::bigint as ns,"
            " count(*) filter (ts_ns >= $begin) as begun from thread_state join thread using (utid)"
            " where tid = $tid and ts_ns < $end and coalesce(ts_ns + dur_ns, $end) > $begin group by state",
            {"tid": tid, "begin": begin, "end": end},
        ).rows()
    ns = {state: time for state, time, _ in rows}
    begun = {state: count for state, _, count in rows}
    assert sum(ns.values()) == end - begin
    waited = ns.get("runnable", 0) + ns.get("preempted", 0)
    # The kernel's clock of a thread leaves out what the hypervisor took; its clock of waits does not.
    assert abs(waited - (waited1 - waited0)) < 0.1 * (waited1 - waited0) + 5_000_000 + ns.get("unknown", 0)
    assert ns["running"] > 0.9 * (ran1 - ran0) - 2_000_000 - ns.get("unknown", 0)
    assert abs(begun["running"] - (turns1 - turns0)) <= 2 + 2 * begun.get("unknown", 0)
    assert begun["sleeping"] >= 45
