"""The contract: a recorder is one file and one registered table; recovery, SQL and views come by themselves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.convert.open import open_session
from insitu.session.weighted_stacks import Selection
from insitu.views.call_tree import call_tree

if os.geteuid() != 0:
    pytest.skip("needs root, for perf_event_open(2)", allow_module_level=True)

# Each nap is reported with the return addresses of its callers. It sleeps N microseconds for nap number N.
_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
static FILE *out;
static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
KEEP void doze(long n, const char *file, void *caller)
{
    long long begin = now();
    usleep(n);
    fprintf(out, "%lld %lld %d %s %p %p\n", begin, n * 1000LL, getpid(), file, (char *)doze + 4, caller);
    fflush(out);
}
KEEP void short_nap(long n) { doze(n, "/short", __builtin_return_address(0)); __asm__ volatile(""); }
KEEP void long_nap(long n) { doze(n * 3, "/long", __builtin_return_address(0)); __asm__ volatile(""); }
int main(int argc, char **argv)
{
    out = fopen(argv[1], "w");
    for (long n = 1; n <= atol(argv[2]); n++) { short_nap(n); long_nap(n); }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("toy")
    (directory / "naps.c").write_text(_PROGRAM)
    subprocess.run(["gcc", "-O0", "-g", "-no-pie", "-o", directory / "naps", directory / "naps.c"], check=True)
    return directory / "naps"


@pytest.fixture(scope="module")
def session(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recording of 100 short and 100 long naps, left as the recorder left it."""
    directory = tmp_path_factory.mktemp("recorded")
    done = subprocess.run(_recorder(directory, program, 100), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    yield directory / "naps.insitu"


def _recorder(directory: Path, program: Path, naps: int) -> list[str]:
    os.mkfifo(directory / "fifo")
    toy = Path(__file__).with_name("toy_source.py")
    return [
        sys.executable,
        str(toy),
        str(directory / "naps.insitu"),
        str(directory / "fifo"),
        str(program),
        str(directory / "fifo"),
        str(naps),
    ]


def insitu(*words: object) -> str:
    done = subprocess.run([sys.executable, "-m", "insitu", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows_are_what_the_program_said(session: Path) -> None:
    with open_session(session) as opened:
        rows = opened.sql(
            "select file, count(*) n, sum(dur_ns)::bigint ns from nap group by file order by file"
        ).rows()
        # The sum of 1 to 100 is 5050; a long nap takes three times as long.
        assert rows == [("/long", 100, 3 * 5050 * 1000), ("/short", 100, 5050 * 1000)]
        names = opened.sql("select distinct name from nap join thread using (utid)").rows()
        assert names == [("naps",)]


def test_its_stacks_are_weighted_by_its_durations(session: Path) -> None:
    with open_session(session) as opened:
        stacks = opened.stacks()
    tree = call_tree(stacks)
    own = {}
    for node in range(1, len(tree)):
        own[tree.names[tree.name[int(tree.parent[node])]].function, tree.names[tree.name[node]].function] = int(
            tree.own[node]
        )
    assert (stacks.table, stacks.unit, tree.unit, stacks.total_count) == ("nap", "ns", "ns", 200)
    assert own["main", "doze"] == 4 * 5050 * 1000


def test_rows_are_selected_by_time(session: Path) -> None:
    with open_session(session) as opened:
        first = opened.sql("select min(ts_ns), max(ts_ns) from nap").row(0)
        half = (first[1] - first[0]) / 2e9
        early, late = opened.stacks(Selection(end_s=half)), opened.stacks(Selection(start_s=half))
        wanted = opened.sql("select count(*) from nap where ts_ns < ?", [first[0] + round(half * 1e9)]).item()
    assert early.total_count == wanted
    assert early.total_count + late.total_count == 200


def test_a_killed_recorder_leaves_a_session_that_opens(program: Path, tmp_path: Path) -> None:
    with subprocess.Popen(_recorder(tmp_path, program, 20_000)) as recorder:
        log = tmp_path / "naps.insitu" / "raw" / "naps" / "rows.records"
        while not (log.exists() and log.stat().st_size > 20_000):
            assert recorder.poll() is None
            time.sleep(0.01)
        recorder.send_signal(signal.SIGKILL)
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.truncate(size - 5)  # as a full disk leaves it
    with open_session(tmp_path / "naps.insitu") as opened:
        durations = opened.sql("select dur_ns from nap where file = '/short' order by ts_ns")["dur_ns"].to_list()
        assert durations == [n * 1000 for n in range(1, len(durations) + 1)]
        assert len(durations) > 80
        assert any("incomplete record" in note for note in opened.manifest.notes)
        assert opened.manifest.state == "complete"


def test_every_view_draws_it(session: Path, tmp_path: Path) -> None:
    report = insitu("report", session)
    assert "doze" in report and "20.200ms" in report  # 4 * 5050 us
    document = json.loads(insitu("report", session, "--json"))
    assert (document["unit"], document["total"]) == ("ns", 4 * 5050 * 1000)
    for view in ("flame", "heatmap"):
        insitu(view, session, "-o", tmp_path / f"{view}.html")
        assert (tmp_path / f"{view}.html").stat().st_size > 10_000
    folded = insitu("export", session, "--format", "folded")
    assert sorted(folded.splitlines()) == ["naps;main;doze 20200000"]
    assert json.loads(insitu("export", session, "--format", "speedscope"))["profiles"][0]["unit"] == "nanoseconds"
    assert "doze" in insitu("diff", session, session)
    assert "doze" in insitu("export", session, "--format", "dot")
    assert insitu("sql", session, "select count(*) n from nap").split() == ["n", "200"]
