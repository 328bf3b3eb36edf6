"""This kernel accepts the filters that are accepted here and refuses the others; counts and latencies of calls."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.test_event_filters import ACCEPTED, REFUSED

from insitu.errors import InsituError
from insitu.kernel.bpf_map import possible_cpus
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs import EventFormat, Tracefs, event_directory
from insitu.record.ftrace.filters import parse_filter
from insitu.record.ftrace.histograms import Row, histogram_request
from insitu.record.source import Target
from insitu.record.sources.histogram import ScriptHistogram
from insitu.session.reader import Session


class Kernel:
    """What the kernel says about filters."""

    def __init__(self, tracefs: Tracefs, instance: TraceInstance) -> None:
        self._tracefs, self._instance = tracefs, instance

    def event(self, name: str) -> EventFormat:
        return self._tracefs.event(*name.split(":"))

    def accepts(self, name: str, text: str) -> bool:
        try:
            self._instance.write(f"{event_directory(name)}/filter", text)
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    tracefs = Tracefs.open()
    instance = TraceInstance.create(tracefs)
    yield Kernel(tracefs, instance)
    instance.close()
    tracefs.close()


def test_the_kernel_accepts_what_is_written(kernel: Kernel) -> None:
    for event, text, _ in ACCEPTED:
        checked = parse_filter(text, kernel.event(event.name))
        assert kernel.accepts(event.name, checked.text), checked.text


def test_the_kernel_refuses_what_is_refused(kernel: Kernel) -> None:
    for event, text, _, _ in REFUSED:
        assert not kernel.accepts(event.name, text), text


_NAMES = st.sampled_from(["prev_pid", "prev_state", "prev_comm", "next_comm", "cpu", "comm", "common_pid", "x"])
_SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "&", "~"])
_VALUES = st.sampled_from(["0", "-1", "017", "0x1f", "'a*'", '"b"', "CPUS{0}", "08", "x"])
_ONE = st.tuples(_NAMES, _SIGNS, _VALUES).map(" ".join)
_TREES = st.recursive(
    _ONE,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" && ", "||"]), inner).map("".join),
        inner.map("({})".format),
        inner.map("!({})".format),
    ),
    max_leaves=6,
)


@given(text=_TREES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_this_reader_and_the_kernel_agree_on_any_filter(kernel: Kernel, text: str) -> None:
    event = kernel.event("sched:sched_switch")
    try:
        checked = parse_filter(text, event, cpus=possible_cpus())
    except InsituError:
        assert not kernel.accepts(event.name, text)
    else:
        assert kernel.accepts(event.name, checked.text)


def _document(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "events", "--json", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


_CALLS = """
import os
file = os.open("/proc/self/status", os.O_RDONLY)
for offset in range(100, 110):
    os.lseek(file, offset, os.SEEK_SET)
if os.fork() == 0:
    os.lseek(file, 107, os.SEEK_SET)
    os._exit(0)
os.wait()
"""


def test_a_histogram_counts_and_adds_up_the_calls_of_a_command_and_its_children() -> None:
    asked = ["--hist", "syscalls:sys_enter_lseek", "--key", "offset.buckets=5", "--value", "offset"]
    found = _document(*asked, "--where", "offset >= 100 && offset < 110", "--", sys.executable, "-S", "-c", _CALLS)
    assert found["entries"] == [
        {"key": {"offset.buckets=5": 105}, "hits": 6, "sum": {"offset": sum(range(105, 110)) + 107}},
        {"key": {"offset.buckets=5": 100}, "hits": 5, "sum": {"offset": sum(range(100, 105))}},
    ]
    assert (found["hits"], found["dropped"]) == (11, 0)


def test_the_intervals_of_a_histogram_add_up_to_all_calls(tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    asked = ["--hist", "syscalls:sys_enter_lseek", "--key", "offset", "--interval", "0.2", "--json", "-o", str(run)]
    calls = f"import time\n{_CALLS}".replace("    os.lseek(file, off", "    time.sleep(0.1)\n    os.lseek(file, off")
    command = [sys.executable, "-m", "insitu", "events", *asked, "--where", "offset >= 100 && offset < 110"]
    done = subprocess.run([*command, "--", sys.executable, "-S", "-c", calls], check=True, stdout=subprocess.PIPE)
    intervals = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(intervals) > 2
    assert sum(each["hits"] for each in intervals) == 11
    with Session(run) as session:
        rows = session["histogram.sys_enter_lseek"].select("ts_ns", "offset", "hits").rows()
    assert sum(hits for _, _, hits in rows) == 11
    assert {offset for _, offset, _ in rows} == {*range(100, 110)}
    assert len({ts_ns for ts_ns, _, _ in rows}) > 2


_THREADS = """
import os, sys, threading
file, go = os.open("/proc/self/status", os.O_RDONLY), threading.Event()
def later(offset):
    go.wait()
    os.lseek(file, offset, os.SEEK_SET)
early = [threading.Thread(target=later, args=(offset,)) for offset in range(100, 300)]
for each in early:
    each.start()
print(flush=True)
sys.stdin.readline()
go.set()
for each in early:
    each.join()
if os.fork() == 0:
    late = threading.Thread(target=later, args=(300,))
    late.start()
    late.join()
    os._exit(0)
os.wait()
"""


def test_a_histogram_of_a_running_process_counts_its_threads_and_what_they_start(kernel: Kernel) -> None:
    event = kernel.event("syscalls:sys_enter_lseek")
    # Fewer entries than there are threads: only keys take one.
    request = histogram_request(event, ["whence"], ["offset"], "offset >= 100 && offset <= 300", entries=128)
    words = [sys.executable, "-S", "-c", _THREADS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdout.readline()
        source = ScriptHistogram(request)
        with closing(source):
            source.open(Target(pids=(running.pid,)))
            source.start(None, 0)
            running.communicate(b"\n")
            source.stop(0)
    assert source.histogram is not None
    assert source.histogram.rows == (Row((0,), 201, (sum(range(100, 301)),)),)
    assert source.histogram.dropped == 0


def test_a_logarithmic_key_is_the_next_power_of_two_as_the_kernel_has_it() -> None:
    asked = ["--hist", "syscalls:sys_enter_lseek", "--key", "offset.log2", "--where", "offset > 126 && offset < 130"]
    found = _document(*asked, "--", sys.executable, "-S", "-c", _CALLS.replace("100, 110", "127, 130"))
    entries = found["entries"]
    assert isinstance(entries, list)
    assert {each["key"]["offset.log2"]: each["hits"] for each in entries} == {"2^7": 2, "2^8": 1}


def test_the_latency_of_a_sleep_is_what_was_slept() -> None:
    pair = "syscalls:sys_enter_clock_nanosleep -> syscalls:sys_exit_clock_nanosleep, key common_pid"
    found = _document("--latency", pair, "--", "sleep", "0.2")
    assert found["count"] == 1
    least = found["least_ns"]
    assert isinstance(least, int)
    assert least >= 200_000_000


def test_a_filter_that_does_not_fit_ends_before_the_command_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "events", "-e", "kmem:kmalloc", "-F", "bytes > 1", "--", "echo", "ran"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "did you mean 'bytes_req'" in done.stderr
    assert "ran" not in done.stdout
    assert os.strerror(22) not in done.stderr


def test_that_no_event_passed_the_filter_is_said() -> None:
    words = ("-e", "sched:sched_switch", "-F", "prev_pid == 4194304", "--", "true")
    done = subprocess.run([sys.executable, "-m", "insitu", "events", *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "insitu: no such event happened, or none passed its filter\n")
