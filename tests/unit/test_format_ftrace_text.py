"""The text of tracefs's trace file, against trace-cmd's report of the same ring, and against arithmetic."""

import gzip
import subprocess
import sys

import pytest
from tests.unit import trace_dat_files as files

from insitu.cli import main
from insitu.convert.event_schema import column_of, field_of
from insitu.convert.formats.ftrace_text import is_ftrace_text
from insitu.convert.formats.perf_script import is_perf_script
from insitu.convert.formats.registry import ImportOptions, importer_of
from insitu.convert.formats.stack_maps import is_bpftrace, is_dtrace
from insitu.convert.formats.trace_tables import event_tables
from insitu.convert.open import import_file, open_session
from insitu.errors import InsituError

_GRAPH = """\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 0)               |  do_sys_open() {
 0)   0.123 us    |    getname();
 0)               |    do_filp_open [ext4]() {
 0)   1.000 us    |      path_openat();
 0) + 12.300 us   |    }
 0)   ==========> |
 0)   <========== |
 0)               |    /* sched_waking: comm=sh pid=7 prio=120 target_cpu=001 */
 0) + 20.000 us   |  } /* do_sys_open */
 1)   2.000 us    |  mutex_unlock();
 ------------------------------------------
 1)    cat-77      =>     sh-78
 ------------------------------------------

 1)   3.000 us    |  } /* vfs_read */
"""
_TIMED_GRAPH = """\
# tracer: function_graph
  100.000010 |   0)    cat-77      |               |  vfs_read() {
  100.000012 |   0)    cat-77      |   1.500 us    |    rw_verify_area();
  100.000020 |   0)    cat-77      | + 10.000 us   |  }
  100.000030 |   0)    cat-77      |               |  vfs_write() {
"""
_HEADER = "# tracer: function\n#\n# entries-in-buffer/entries-written: 2/7   #P:4\n#\n"


@pytest.fixture
def session_of(tmp_path):
    def imported(text, **options):
        path = tmp_path / "trace.txt"
        path.write_text(text)
        assert importer_of(path).name == "ftrace text"
        import_file(path, tmp_path / "run.insitu", ImportOptions(**options))
        return open_session(tmp_path / "run.insitu")

    return imported


def test_events_times_and_fields_are_those_of_trace_cmds_report_of_the_same_ring(session_of):
    text = gzip.decompress((files.HERE / "trace.txt.gz").read_bytes()).decode()
    expected = sorted((line.event, line.ts_ns, line.tid, line.cpu, line.fields) for line in files.report("trace"))
    with session_of(text) as session:
        tids = session["thread"]["tid"].to_list()
        found = []
        for table in (name for name in session.tables if name.startswith("event.")):
            for row in session[table].rows(named=True):
                ts_ns, tid, cpu = row.pop("ts_ns"), tids[row.pop("utid")], row.pop("cpu")
                found.append((table.removeprefix("event."), ts_ns, tid, cpu, row))
    assert len(found) == len(expected) == 258
    for (event, ts_ns, tid, cpu, row), line in zip(sorted(found, key=lambda each: each[:4]), expected, strict=True):
        assert (event, tid, cpu) == (line[0], line[2], line[3])
        assert abs(ts_ns - line[1]) <= 500  # microseconds
        same = {name: value for name, value in line[4].items() if name not in _PRINTED_OTHERWISE}
        assert {name: row[name] for name in same} == same


_PRINTED_OTHERWISE = {"call_site", "ptr", "gfp_flags", "accounted"}


@pytest.mark.parametrize(
    "head",
    [
        "              sh-35 [000] d..2. 1.000002: sched_waking: comm=a b pid=7 prio=120 target_cpu=000",
        "              sh-35      (     34) [000]  1.000002: sched_waking: comm=a b pid=7 prio=120 target_cpu=000",
        "              sh-35        0d..2. 1000002us+: sched_waking: comm=a b pid=7 prio=120 target_cpu=000",
        "              sh-35 [000] 1.000002000: sched_waking: comm=a b pid=7 prio=120 target_cpu=000",
    ],
)
def test_lines_with_and_without_flags_and_process_are_read(head, session_of):
    with session_of(f"# tracer: nop\n{head}\n") as session:
        (row,) = session["event.sched_waking"].rows(named=True)
        (name,) = session.sql("select name from thread where tid = 35")["name"].to_list()
    assert (row["ts_ns"], row["cpu"], row["comm"], row["pid"], name) == (1_000_002_000, 0, "a b", 7, "sh")


@pytest.mark.parametrize("field", ["cpu", "CPU", "Stack"])
def test_a_field_called_as_a_column_of_ours_keeps_its_values(field, session_of):
    with session_of(f"# tracer: nop\n  sh-35 [000] ..... 1.000001: something: {field}=3 n=4\n") as session:
        (row,) = session["event.something"].rows(named=True)
        (event,) = next(iter(event_tables(session, 2))).fields.rows(named=True)
    assert (row["cpu"], row[f"event_{field}"], row["n"]) == (0, 3, 4)
    assert event["n"] == 4 and event[field_of(f"event_{field}")] == 3


@pytest.mark.parametrize("field", ["cpu", "CPU", "Utid", "ts_ns", "event", "pid"])
def test_a_column_leads_back_to_its_field(field):
    assert field_of(column_of(field)) == field


def test_functions_have_their_caller_stacks_their_event_and_losses_are_counted(session_of):
    text = (
        _HEADER
        + "  sh-35 [000] ..... 1.000001: vfs_read <-ksys_read\n"
        + "CPU:1 [LOST 9 EVENTS]\n"
        + "  sh-35 [001] d..2. 1.000003: sched_process_exit: comm=sh pid=35 prio=120\n"
        + "  sh-35 [001] d..2. 1.000004: <stack trace>\n => do_exit\n => do_group_exit\n"
    )
    with session_of(text) as session:
        called = session.sql("select ip_function, parent_ip_function from event.function").row(0)
        stack = session.sql("select function from event.sched_process_exit join stack_frame using (stack)")
        assert (called, set(stack["function"])) == (("vfs_read", "ksys_read"), {"do_exit", "do_group_exit"})
        assert (session.manifest.lost, session.manifest.cpus) == (5 + 9, 4)


def test_system_calls_have_their_arguments_by_name(session_of):
    text = "  sh-35 [000] ..... 1.000001: sys_openat(dfd: 0xffffff9c, filename: 0x5, flags: 0x241, mode: 0x1b6)\n"
    with session_of(text + "  sh-35 [000] ..... 1.000002: sys_openat -> 0x3\n") as session:
        entered = session.sql("select dfd, filename, flags, mode from event.sys_enter_openat").row(0)
        returned = session.sql("select ret from event.sys_exit_openat").row(0)
    assert (entered, returned) == ((0xFFFFFF9C, 5, 0x241, 0x1B6), (3,))


def test_a_function_graph_without_times_becomes_spans_whose_durations_add_up(session_of):
    with session_of(_GRAPH) as session:
        found = session.sql("select name, dur_ns, self_ns, depth, cpu from span order by cpu, id").rows()
        assert session["event.sched_waking"]["pid"].to_list() == [7]
        assert "funcgraph-abstime" in session.manifest.notes[0]
    assert found == [
        ("do_sys_open", 20_000, 20_000 - 123 - 12_300, 0, 0),
        ("getname", 123, 123, 1, 0),
        ("do_filp_open", 12_300, 11_300, 1, 0),
        ("path_openat", 1_000, 1_000, 2, 0),
        ("mutex_unlock", 2_000, 2_000, 0, 1),
        ("vfs_read", 3_000, 3_000, 0, 1),
    ]


def test_a_function_graph_with_times_keeps_them_and_an_open_call_has_no_duration(session_of):
    with session_of(_TIMED_GRAPH) as session:
        found = session.sql(
            "select ts_ns, dur_ns, span.name, depth, tid from span join thread using (utid) order by id"
        )
    assert found.rows() == [
        (100_000_010_000, 10_000, "vfs_read", 0, 77),
        (100_000_012_000, 1_500, "rw_verify_area", 1, 77),
        (100_000_030_000, None, "vfs_write", 0, 77),
    ]


def test_a_line_that_is_none_of_a_trace_is_named_or_left_out(session_of, tmp_path):
    text = "  sh-35 [000] ..... 1.000001: vfs_read <-ksys_read\nnonsense\n"
    with pytest.raises(InsituError, match="line 2: not a line of a trace"):
        session_of(text)
    with session_of(text, skip_bad_lines=True) as session:
        assert session["event.function"].height == 1
        assert "line 2" in session.manifest.notes[0]


def test_the_text_of_perf_script_is_not_taken_for_a_trace():
    line = b"cc1plus 12345/12346 [003] 12.345678:    1 cpu-clock:\n\t  55 main (/bin/p)\n"
    assert is_perf_script(line)
    assert not is_ftrace_text(line)


@pytest.mark.parametrize("text", [b"\n" * 70_000, b" 0)" + b" " * 20_000 + b"\n", b" 0)  " + b"x-1 " * 10_000])
def test_blanks_take_no_time_to_be_no_trace(text, tmp_path):
    """Quadratic, these took from half a minute to a day."""
    for claims in (is_ftrace_text, is_perf_script, is_bpftrace, is_dtrace):
        assert not claims(text)
    path = tmp_path / "trace.txt"
    path.write_bytes(b"# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n" + text)
    subprocess.run([sys.executable, "-m", "insitu", "import", path, "-o", tmp_path / "x"], timeout=60)


def test_calls_are_reported_and_drawn_as_recorded_ones_are(tmp_path, capsys):
    path = tmp_path / "graph.txt"
    path.write_text(_GRAPH)
    assert main(["report", str(path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    own = {row[-1]: row[1:3] for row in rows if len(row) > 8}
    assert own["path_openat"] == ["1.000", "us"]
    assert own["do_filp_open"] == ["11.300", "us"]  # 12.3 without path_openat
    assert main(["flame", str(path), "-o", str(tmp_path / "graph.html")]) == 0
