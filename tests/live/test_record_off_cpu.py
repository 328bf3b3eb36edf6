"""insitu profile --off-cpu on this kernel."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import insitu
from insitu.kernel.procfs import scheduling, threads

from .tracing import wait_until

_SLEEPS, _SLEEP_NS = 20, 20_000_000
_SLEEPER = f"import time\nfor _ in range({_SLEEPS}): time.sleep({_SLEEP_NS / 1e9})"


def test_the_sleeps_of_a_command_are_spans_with_their_stack_and_thread_states(tmp_path: Path) -> None:
    output = tmp_path / "x.insitu"
    command = [sys.executable, "-m", "insitu", "profile", "-q", "--off-cpu", "-o", str(output), "--"]
    subprocess.run([*command, sys.executable, "-S", "-c", _SLEEPER], check=True)
    with insitu.open(output) as session:
        asleep = session.sql(
            "select id, dur_ns, category from span"
            " where stack in (select stack from stack_frame where function like $f)",
            {"f": "%nanosleep%"},
        )
        # A thread that is preempted while it goes to sleep, as on a loaded machine, leaves the CPU twice.
        assert len(asleep) >= _SLEEPS
        assert asleep["dur_ns"].sum() >= 0.8 * _SLEEPS * _SLEEP_NS
        assert set(asleep["category"]) == {"off-cpu"}
        spans = session.sql("select utid, ts_ns, dur_ns from span order by all")
        blocked = "select what, sum(dur_ns)::double as ns from thread_wall where state = 'blocked' group by what"
        assert dict(session.sql(blocked).rows())["clock_nanosleep"] >= 0.8 * _SLEEPS * _SLEEP_NS
        states = session.sql("select utid, ts_ns, dur_ns from off_cpu_state where state = 'off-cpu' order by all")
        assert spans.equals(states)


_ASLEEP = """#include <pthread.h>
#include <unistd.h>
__attribute__((noinline)) void nap(void) { sleep(1000); __asm__ volatile(""); }
static void *other(void *p) { nap(); return p; }
int main(void) { pthread_t t; pthread_create(&t, 0, other, 0); nap(); return 0; }
"""


def test_a_process_that_sleeps_all_the_time_waits_as_long_as_it_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "asleep.c").write_text(_ASLEEP)
    subprocess.run(["gcc", "-g", "-O1", "-pthread", "-o", "asleep", "asleep.c"], cwd=tmp_path, check=True)
    output = tmp_path / "x.insitu"
    with subprocess.Popen([tmp_path / "asleep"]) as asleep:
        wait_until(lambda: [scheduling(tid).state for tid in threads(asleep.pid)] == ["S", "S"])
        command = [sys.executable, "-m", "insitu", "profile", "-q", "--off-cpu", "-d", "2", "-p", str(asleep.pid)]
        subprocess.run([*command, "-o", str(output)], check=True)
        asleep.kill()
    with insitu.open(output) as session:
        whole = session.manifest.duration_ns
        assert whole >= 2e9
        waits = session.sql("select tid, sum(dur_ns)::double as ns from span join thread using (utid) group by tid")
        assert len(waits) == 2 and asleep.pid in waits["tid"].to_list()
        assert all(0.9 * whole <= ns <= 1.1 * whole for ns in waits["ns"])
        napping = session.sql(
            "select sum(dur_ns)::double as ns from span"
            " where stack in (select stack from stack_frame where function = $f)",
            {"f": "nap"},
        )
        assert napping["ns"].item() >= 0.9 * 2 * whole
    report = subprocess.run(
        [sys.executable, "-m", "insitu", "report", "--json", output], check=True, capture_output=True
    ).stdout
    assert 0.9 * 2 * whole <= json.loads(report)["total"] <= 1.1 * 2 * whole


_THREADS: Final = """#include <pthread.h>
#include <unistd.h>
static void *nap(void *p) { usleep(2000); return p; }
int main(void) {
    for (int i = 0; i < 500; i++) { pthread_t t; pthread_create(&t, 0, nap, 0); pthread_join(t, 0); }
    return 0;
}
"""


def test_no_wait_outlasts_its_thread(tmp_path: Path) -> None:
    """Not even where the kernel runs no program as a thread comes back, which happens in some virtual machines."""
    (tmp_path / "threads.c").write_text(_THREADS)
    subprocess.run(["gcc", "-O1", "-pthread", "-o", "threads", "threads.c"], cwd=tmp_path, check=True)
    output = tmp_path / "x.insitu"
    command = [sys.executable, "-m", "insitu", "profile", "-q", "--off-cpu", "-o", str(output)]
    subprocess.run([*command, "--", tmp_path / "threads"], check=True)
    with insitu.open(output) as session:
        waits = session.sql(
            "select tid, span.ts_ns, dur_ns, t.end_ns from span join thread t using (utid) where t.end_ns is not null"
        )
        assert waits["tid"].n_unique() >= 500
        outlasting = "ts_ns < end_ns and ts_ns + dur_ns > end_ns"
        assert waits.sql(f"select * from self where {outlasting}").rows() == []
        lost = session.manifest.lost
        assert lost == waits["dur_ns"].null_count()


def test_waits_end_in_the_scheduler_whoever_else_traces(tmp_path: Path) -> None:
    output = tmp_path / "x.insitu"
    other = f'rawtracepoint:sched_switch /pid == {os.getpid()}/ {{ @ = count(); }} BEGIN {{ printf("traces\\n"); }}'
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", other]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tracer:
        try:
            assert tracer.stdout and tracer.stdout.readline() == b"traces\n"
            waits = _leaves(output, "span", "--off-cpu")
            samples = _leaves(output, "sample", "-e", "sched:sched_switch")
        finally:
            tracer.send_signal(signal.SIGINT)
    for leaves in (waits, samples):
        assert leaves.get("__schedule", 0) >= 0.8 * _SLEEPS
        assert not [each for each in leaves if "trace" in each or each.startswith("bpf_")]


def _leaves(output: Path, table: str, *words: str) -> dict[str, int]:
    """How many rows of the table have each function at the leaf."""
    command = [sys.executable, "-m", "insitu", "profile", "-q", *words, "-o", str(output), "--"]
    subprocess.run([*command, sys.executable, "-S", "-c", _SLEEPER], check=True)
    with insitu.open(output) as session:
        rows = session.sql(
            f"select function, count(*) from {table} join stack_frame using (stack) where position = 0 group by all"
        ).rows()
    shutil.rmtree(output)
    return dict(rows)


_OUTLIVED: Final = """
#include <pthread.h>
#include <unistd.h>
static void *sleeper(void *nothing) { for (int i = 0; i < 120; i++) usleep(2000); return nothing; }
int main(void) { pthread_t t; pthread_create(&t, 0, sleeper, 0); pthread_exit(0); }
"""


def test_a_process_whose_main_thread_has_ended_is_still_followed(tmp_path: Path) -> None:
    (tmp_path / "outlived.c").write_text(_OUTLIVED)
    subprocess.run(["gcc", "-O1", "-pthread", "-o", "outlived", "outlived.c"], cwd=tmp_path, check=True)
    output = tmp_path / "x.insitu"
    command = [sys.executable, "-m", "insitu", "profile", "-q", "--off-cpu", "-o", str(output)]
    subprocess.run([*command, "--", tmp_path / "outlived"], check=True)
    with insitu.open(output) as session:
        waits = session.sql("select count(*) from span where name = 'sleep' and dur_ns >= 2000000").rows()
        assert 120 - session.manifest.lost <= waits[0][0] <= 121
