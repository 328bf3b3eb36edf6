"""Exported files in Perfetto's own trace_processor, asked by its SQL."""

import itertools

import pytest
from tests.unit import trace_dat_files as files
from tests.unit.sessions import mixed_session, traced_session
from tests.unit.trace_processor import TraceProcessor, trace_processor

from insitu.convert.formats.chrome import export_chrome
from insitu.convert.formats.perfetto import export_perfetto
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.open import import_file, open_session

_SPANS = [
    (100, 50, "call", "outer", 0),
    (110, 10, "call", "inner", 1),
    (120, None, "wait", "open", 0),
    (130, 40, "call", "crossing", 0),
]


def _exported(path, export=export_perfetto):
    with open_session(path) as session:
        return b"".join(export(session, ExportOptions("run")))


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    path = traced_session(tmp_path_factory.mktemp("spans") / "run.insitu", _SPANS, [(5, 1.5), (6, -2.0)])
    with trace_processor(_exported(path)) as asked:
        yield asked


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    with trace_processor(_exported(mixed_session(tmp_path_factory.mktemp("mixed") / "run.insitu"))) as asked:
        yield asked


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """trace-cmd's file, imported and exported."""
    directory = tmp_path_factory.mktemp("events")
    import_file(files.file("version_7", directory), directory / "run.insitu")
    with trace_processor(_exported(directory / "run.insitu")) as asked:
        yield asked


def _lines(*events: str) -> list[files.Line]:
    found = [line for line in files.report("events") if line.event in events]
    return sorted(found, key=lambda line: line.ts_ns)


_SLICES = """
    select s.ts, s.dur, s.category, s.name, s.depth, thread.tid, process.pid
    from slice s join thread_track t on t.id = s.track_id join thread using (utid) join process using (upid)
    order by s.ts
"""


def test_spans_are_slices_of_their_thread(spans: TraceProcessor):
    expected = [(ts, -1 if dur is None else dur, *what, 7, 7) for ts, dur, *what in _SPANS]
    assert spans.query(_SLICES) == expected
    assert spans.complaints() == {}


def test_counters_have_their_unit_and_values(spans: TraceProcessor):
    found = spans.query("select name, unit, ts, value from counter c join counter_track t on t.id = c.track_id")
    assert found == [("free memory", "bytes", 5, 1.5), ("free memory", "bytes", 6, -2.0)]


def test_a_pid_that_is_used_again_is_another_process_and_threads_are_in_theirs(mixed: TraceProcessor):
    found = mixed.query(
        "select tid, thread.name as thread, pid, process.name as process, cmdline"
        " from thread join process using (upid) where tid > 0 order by utid"
    )
    assert [row[:4] for row in found] == [
        (100, "ls", 100, "sh"),
        (100, "cat", 100, "cat"),
        (101, "helper", 100, "cat"),
    ]
    slices = mixed.query(
        "select distinct thread.name as of from slice s"
        " join thread_track t on t.id = s.track_id join thread using (utid)"
    )
    assert slices == [("ls",)]


def test_samples_have_their_stacks_from_the_outermost_frame_on(tmp_path):
    path = tmp_path / "script.txt"
    path.write_text(
        "prog 7 [001] 1.000000001: 5 cpu-clock: \n\t11 leaf (/bin/p)\n\t22 main (/bin/p)\n\n"
        "prog 7 [000] 1.000000002: 5 cpu-clock: \n\t22 main (/bin/p)\n\n"
        "prog 7 [001] 1.000000003: 9 cpu-clock: \n\t22 main (/bin/p)\n\n"
    )
    with trace_processor(_exported(path)) as asked:
        counts = asked.query(
            "select name, cpu, value from counter c join perf_counter_track t on t.id = c.track_id order by ts"
        )
        samples = asked.query(
            "select ts, cpu, tid, callsite_id from perf_sample join thread using (utid) order by ts"
        )
        frames = {
            number: (parent, name, module)
            for number, parent, name, module in asked.query(
                "select c.id, c.parent_id as parent, f.name, m.name as module from stack_profile_callsite c"
                " join stack_profile_frame f on f.id = c.frame_id join stack_profile_mapping m on m.id = f.mapping"
            )
        }
    chains = []
    for *_, callsite in samples:
        chain = []
        while callsite is not None:
            callsite, name, module = frames[callsite]
            chain.append((name, module))
        chains.append(chain)
    assert [row[:3] for row in samples] == [(10**9 + 1, 1, 7), (10**9 + 2, 0, 7), (10**9 + 3, 1, 7)]
    main = ("main", "/bin/p")
    assert chains == [[("leaf", "/bin/p"), main], [main], [main]]
    assert counts == [("cpu-clock", 1, 5), ("cpu-clock", 0, 5), ("cpu-clock", 1, 14)]


def test_what_ran_on_the_cpu_is_what_the_switches_say(events: TraceProcessor):
    switches = _lines("sched_switch")
    expected = [
        (begin.ts_ns, end.ts_ns - begin.ts_ns, begin.cpu, begin.fields["next_pid"])
        for begin, end in itertools.pairwise(switches)  # all on one CPU
        if begin.fields["next_pid"] == end.fields["prev_pid"]
    ]
    found = events.query(
        "select ts, dur, cpu, tid from sched_slice join thread using (utid) where dur > 0 and tid > 0 order by ts"
    )
    assert found == [row for row in expected if row[3]]
    # It also counts the switches that the file lacks.
    lost = sum(a.fields["next_pid"] != b.fields["prev_pid"] for a, b in itertools.pairwise(switches))
    assert events.complaints() == {"mismatched_sched_switch_tids": lost}


def test_a_thread_that_was_woken_names_its_waker(events: TraceProcessor):
    wakings = {(line.ts_ns, line.fields["pid"]): line.tid for line in _lines("sched_waking")}
    found = events.query(
        "select s.ts, t.tid, w.tid as waker from thread_state s join thread t using (utid)"
        " join thread w on w.utid = s.waker_utid where s.state = 'R'"
    )
    assert len(found) > 5
    assert found == [(ts, tid, wakings[ts, tid]) for ts, tid, _ in found]


def test_a_waking_is_a_flow_from_its_waker_to_the_thread_that_waited(events: TraceProcessor):
    flows = events.query(
        "select i.ts, i.dur, woken.tid as woken, o.ts as at, waker.tid as waker, o.name as wakes, i.name as waits"
        " from flow f join slice o on o.id = f.slice_out join slice i on i.id = f.slice_in"
        " join thread_track ot on ot.id = o.track_id join thread waker on waker.utid = ot.utid"
        " join thread_track it on it.id = i.track_id join thread woken on woken.utid = it.utid order by i.ts"
    )
    # Perfetto makes the same of the scheduler's events itself. Of thread 29 the switch to it was lost.
    expected = events.query(
        "select s.ts, s.dur, t.tid, w.tid as waker, t.name from thread_state s join thread t using (utid)"
        " join thread w on w.utid = s.waker_utid where s.state = 'R' and w.tid > 0 and t.tid != 29"
        " order by s.ts"
    )
    assert len(expected) > 5
    assert [(ts, dur, woken, waker, wakes) for ts, dur, woken, _, waker, wakes, _ in flows] == [
        (ts, dur, tid, waker, f"wakes {name}") for ts, dur, tid, waker, name in expected
    ]
    wakings = {(line.ts_ns, line.fields["pid"], line.tid) for line in _lines("sched_waking")}
    assert {(at, woken, waker) for _, _, woken, at, waker, *_ in flows} <= wakings
    assert {row[-1] for row in flows} == {"runnable"}


def test_other_events_are_instants_with_their_fields(events: TraceProcessor):
    found = events.query(
        "select s.ts, tid, s.name, extract_arg(s.arg_set_id, 'debug.filename') as filename,"
        " extract_arg(s.arg_set_id, 'debug.dfd') as dfd, extract_arg(s.arg_set_id, 'debug.flags') as flags"
        " from slice s join thread_track t on t.id = s.track_id join thread using (utid)"
        " where s.category != 'wakeup' order by s.ts"
    )
    expected = [
        (line.ts_ns, line.tid, line.event, *(line.fields[name] for name in ("filename", "dfd", "flags")))
        for line in _lines("sys_enter_openat")
    ]
    assert found == expected


def test_every_event_that_perfetto_knows_is_an_ftrace_event(events: TraceProcessor):
    names = {line.event for line in files.report("events")} - {"sys_enter_openat"}
    expected = [(line.ts_ns, line.event, line.cpu, line.tid) for line in _lines(*names)]
    found = events.query("select ts, e.name, ucpu, tid from ftrace_event e join thread using (utid) order by ts")
    assert sorted(found) == sorted(expected)


def test_chromes_format_is_read_by_perfetto_too(tmp_path):
    path = traced_session(
        tmp_path / "run.insitu", [(ts * 1000, dur and dur * 1000, *what) for ts, dur, *what in _SPANS]
    )
    with trace_processor(_exported(path, export_chrome)) as asked:
        found = asked.query("select ts, dur, category, name from slice order by ts")
        assert found == [(ts * 1000, -1 if dur is None else dur * 1000, *what[:2]) for ts, dur, *what in _SPANS]
        assert asked.complaints() == {}
