"""Chrome's JSON traces, read by what its "Trace Event Format" says."""

import itertools
import json

import pytest
from tests.unit import trace_dat_files as files
from tests.unit.sessions import traced_session

from insitu.convert.formats.chrome import export_chrome
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.open import import_file, open_session


@pytest.fixture
def events_of():
    def exported(path):
        with open_session(path) as session:
            document = json.loads(b"".join(export_chrome(session, ExportOptions("run"))))
        return document["traceEvents"]

    return exported


def test_spans_that_nest_are_complete_events_and_others_asynchronous(tmp_path, events_of):
    rows = [
        (1000, 500, "call", "outer", 0),
        (1100, 100, "wait", "inner", 1),
        (1300, 400, "call", "crossing", 0),
        (2001, None, "call", "open", 0),
    ]
    events = events_of(traced_session(tmp_path / "run.insitu", rows))
    shown = [(e["ph"], e["name"], e["cat"], e["ts"], e.get("dur")) for e in events if e["ph"] in "XBbe"]
    assert shown == [
        ("X", "outer", "call", 1.0, 0.5),
        ("X", "inner", "wait", 1.1, 0.1),
        ("b", "crossing", "call", 1.3, None),
        ("e", "crossing", "call", 1.7, None),
        ("B", "open", "call", 2.001, None),
    ]
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] in "XBbe"} == {(7, 7)}
    assert {(e["name"], e["args"]["name"]) for e in events if e["ph"] == "M" and e["tid"] == 7} == {
        ("process_name", "cat"),
        ("thread_name", "cat"),
    }


def test_counters_have_their_unit(tmp_path, events_of):
    events = events_of(traced_session(tmp_path / "run.insitu", [], [(5, 1.5), (6, -2.0)]))
    assert [(e["name"], e["ts"], e["args"]) for e in events if e["ph"] == "C"] == [
        ("free memory", 0.005, {"bytes": 1.5}),
        ("free memory", 0.006, {"bytes": -2.0}),
    ]


def test_what_ran_on_a_cpu_and_the_fields_of_events_are_those_of_trace_cmd_report(tmp_path, events_of):
    import_file(files.file("version_7", tmp_path), tmp_path / "run.insitu")
    events = events_of(tmp_path / "run.insitu")
    lines = sorted(files.report("events"), key=lambda line: line.ts_ns)
    switches = [line for line in lines if line.event == "sched_switch"]
    ran = [
        (begin.ts_ns, end.ts_ns, end.fields["prev_pid"])
        for begin, end in itertools.pairwise(switches)  # all on CPU 0
        if end.fields["prev_pid"] == begin.fields["next_pid"] and end.fields["prev_pid"]
    ]
    shown = [e for e in events if e["ph"] == "X"]
    assert [(round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000), e["args"]["tid"]) for e in shown] == ran
    others = [line for line in lines if line.event == "sys_enter_openat"]
    instants = [e for e in events if e["name"] == "sys_enter_openat"]
    assert [round(e["ts"] * 1000) for e in instants] == [line.ts_ns for line in others]
    assert all(line.fields.items() <= e["args"].items() for e, line in zip(instants, others, strict=True))


def test_switches_without_fields_of_their_own_are_instants(tmp_path, events_of):
    path = tmp_path / "report.txt"
    path.write_text("cpus=1\n  sh-35 [000] 1.000001: sched_switch:   sh:35 [120] S ==> cat:36 [120]\n")
    (switch,) = [e for e in events_of(path) if e["ph"] == "i"]
    assert (switch["ts"], switch["args"]["text"]) == (1_000_001.0, "sh:35 [120] S ==> cat:36 [120]")
