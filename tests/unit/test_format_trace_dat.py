"""Files of trace-cmd, imported, against what trace-cmd report prints of them."""

import gzip
import re
import struct

import pytest
from tests.unit import trace_dat_files as files

from insitu.cli import main
from insitu.convert.formats.trace_dat import _scaled
from insitu.convert.formats.trace_dat_sections import Budget, Cursor
from insitu.convert.open import import_file, open_session
from insitu.errors import InsituError
from insitu.session.call_table import shows_calls

_HEAD = {"ts_ns", "utid", "cpu"}


@pytest.fixture
def session_of(tmp_path):
    def imported(path):
        import_file(path, tmp_path / "run.insitu")
        return open_session(tmp_path / "run.insitu")

    return imported


def _events(session, since_ns=0):
    """(buffer, event, time, CPU, tid, fields) of every row of every event, by time."""
    tids = session["thread"]["tid"].to_list()
    found = []
    for table in session.tables:
        if table.startswith("event."):
            buffer, _, event = table.removeprefix("event.").rpartition(".")
            for row in session[table].rows(named=True):
                fields = {name: value for name, value in row.items() if name not in _HEAD}
                found.append((buffer, event, row["ts_ns"] + since_ns, row["cpu"], tids[row["utid"]], fields))
    return sorted(found, key=lambda row: row[2:5])


@pytest.mark.parametrize("version", ["version_6", "version_7", "version_7_plain"])
def test_events_and_fields_are_those_of_trace_cmd_report(version, tmp_path, session_of):
    expected = sorted(files.report("events"), key=lambda line: (line.ts_ns, line.cpu, line.tid))
    with session_of(files.file(version, tmp_path)) as session:
        found = _events(session)
    assert len(found) == len(expected) == 120
    for (_, event, ts_ns, cpu, tid, fields), line in zip(found, expected, strict=True):
        assert (event, ts_ns, cpu, tid) == (line.event, line.ts_ns, line.cpu, line.tid)
        shown = {name: value for name, value in line.fields.items() if name != "call_site"}  # printed as a function
        assert {name: fields[name] for name in shown} == shown


def test_each_buffer_has_its_own_tables_and_the_date_makes_wall_clock_times(tmp_path, session_of):
    expected = files.report("buffers")
    with session_of(files.file("buffers", tmp_path)) as session:
        manifest = session.manifest
        found = _events(session, manifest.start_realtime_ns - manifest.start_ns)
    assert sorted(row[:5] for row in found) == sorted(
        (line.buffer, line.event, line.ts_ns, line.cpu, line.tid) for line in expected
    )


@pytest.mark.parametrize("release", ["2.9.1", "3.3.1", "3.4"])
def test_files_of_other_releases_have_the_events_and_fields_that_their_report_prints(release, tmp_path, session_of):
    lines = files.report(f"release_{release}")
    stacks = [line for line in lines if line.event == "kernel_stack"]  # of the event before
    expected = sorted(
        (line for line in lines if line.event != "kernel_stack"), key=lambda line: (line.ts_ns, line.cpu, line.tid)
    )
    with session_of(files.file(f"release_{release}", tmp_path)) as session:
        found = _events(session)
    assert len(expected) > 300
    assert {line.event for line in expected} >= {"function", "sys_enter", "sys_exit"}
    for (buffer, event, ts_ns, cpu, tid, fields), line in zip(found, expected, strict=True):
        assert (buffer, event, ts_ns, cpu, tid) == (line.buffer, line.event, line.ts_ns, line.cpu, line.tid)
        # Others are printed as arrays and functions.
        shown = {name: value for name, value in line.fields.items() if type(value) is int or name.endswith("comm")}
        assert {name: fields[name] for name in shown} == shown
    assert len([row for row in found if row[5].get("stack")]) == len(stacks)


def test_events_of_every_buffer_are_printed(tmp_path, capsys):
    import_file(files.file("buffers", tmp_path), tmp_path / "run.insitu")
    assert main(["events", str(tmp_path / "run.insitu"), "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(files.report("buffers")) == 26


def test_threads_have_the_names_that_the_file_lists_or_a_switch_says(tmp_path, session_of):
    listed = {line.tid: line.comm for line in files.report("events") if line.tid and line.comm != "<...>"}
    with session_of(files.file("version_7", tmp_path)) as session:
        names = dict(session["thread"].select("tid", "name").iter_rows())
    assert {tid: names[tid] for tid in listed} == listed
    assert names[19707] == "sh"  # by its switches: trace-cmd shows <...>


def test_functions_are_named_by_the_symbols_of_the_file(tmp_path, session_of):
    with session_of(files.file("version_7", tmp_path)) as session:
        events = session["event.kmem_cache_alloc"]
        rows = events.select("ts_ns", "call_site_function", "call_site_offset").rows()
        assert session.manifest.kernel.startswith("6.18.")
    printed = {line.ts_ns: str(line.fields["call_site"]) for line in files.report("events") if "ptr" in line.fields}
    known = [(ts_ns, f"{name}+{offset:#x}") for ts_ns, name, offset in rows if name and not name.startswith("0x")]
    assert known
    assert [place for _, place in known] == [printed[ts_ns] for ts_ns, _ in known]


def test_a_file_that_was_cut_off_gives_the_pages_that_are_whole(tmp_path, session_of):
    path = files.file("version_6", tmp_path)
    path.write_bytes(path.read_bytes()[:-4096])
    with session_of(path) as session:
        assert 0 < len(_events(session)) < 120
        assert any("CPU 0 lacks 4096 bytes" in note for note in session.manifest.notes)


@pytest.mark.parametrize(
    ("at", "data", "said"),
    [
        (10, b"5", "version '5' is not read"),
        (12, b"\1", "big-endian"),
        (14, b"\1\0\0\0", "pages of 1 bytes"),
        (18, b"lzo4\0", "compressed with 'lzo4'"),
        (30, b"\xff" * 8, "ends too early"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(at, data, said, tmp_path, session_of):
    path = files.file("version_7", tmp_path)
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    with pytest.raises(InsituError, match=said):
        session_of(path)


def test_a_section_that_claims_more_than_it_holds_is_refused_before_anything_is_allocated(tmp_path, session_of):
    path = files.file("version_7", tmp_path)
    whole = bytearray(path.read_bytes())
    struct.pack_into("<I", whole, 0x25 + 16 + 4, 0xFFFFFFF0)  # uncompressed size of the first section
    path.write_bytes(whole)
    with pytest.raises(InsituError, match="a section of 4294967280 bytes"):
        session_of(path)


def test_a_text_without_an_end_is_damage():
    with pytest.raises(InsituError, match="a text has no end"):
        Cursor(memoryview(b"abc"), "x").string()


def test_tsc_counts_become_nanoseconds_as_the_kernel_computes_them():
    import numpy as np

    ticks = [0, 1, 12345678901234567, 2**62 + 12345]
    expected = [(each * 3435973836 >> 33) + 77 for each in ticks]
    assert _scaled(np.array(ticks, np.int64), 3435973836, 33, 77).tolist() == [
        each & (2**63 - 1) for each in expected
    ]


def test_what_a_file_expands_to_is_bounded_by_its_size():
    budget, at = Budget(1000), Cursor(memoryview(b""), "x.dat")
    budget.take(64_000 + (60 << 20), at)
    with pytest.raises(InsituError, match="expands to more than 64 times its size"):
        budget.take(5 << 20, at)


def test_cpus_that_name_the_same_pages_are_damage(tmp_path):
    """Version 6: after "flyrecord", an offset and a size for each CPU."""
    data = bytearray(files.file("version_6", tmp_path).read_bytes())
    at = data.index(b"flyrecord\0") + 10
    for cpu in range(2):
        struct.pack_into("<QQ", data, at + 16 * cpu, 0, len(data))
    (tmp_path / "same.dat").write_bytes(data)
    with pytest.raises(InsituError, match="pages of several CPUs"):
        import_file(tmp_path / "same.dat", tmp_path / "run.insitu")


_GRAPH = re.compile(
    r"\s*\S+-(?P<tid>\d+)\s+\[\d+\]\s+\d+\.\d{9}: funcgraph_(?:entry|exit): +"
    r"(?:[^\d\s|] )? *(?:(?P<us>[\d.]+) us)? *\|"
    r" +(?:(?P<leaf>[\w.]+)\(\);|(?P<begins>[\w.]+)\(\) \{|\}.*)"
)


def _graph(text):
    """(thread, function, place of its caller or -1, ns) of each call, by a walk over the report's braces."""
    calls, open_calls = [], {}
    for match in filter(None, map(_GRAPH.fullmatch, text.splitlines())):
        path = open_calls.setdefault(match["tid"], [])
        took = round(float(match["us"] or 0) * 1000)
        if name := match["leaf"] or match["begins"]:
            calls.append([int(match["tid"]), name, path[-1] if path else -1, took])
        if match["begins"]:
            path.append(len(calls) - 1)
        elif not name:
            calls[path.pop()][3] = took
    return calls


def test_function_graphs_become_the_tree_of_calls_that_the_report_draws(tmp_path, session_of):
    text = gzip.decompress((files.HERE / "graph_2.9.1.report.gz").read_bytes()).decode()
    expected = _graph(text)
    with session_of(files.file("graph_2.9.1", tmp_path)) as session:
        rows = session.sql(
            "select tid, span.name, parent, dur_ns, self_ns, id from span join thread using (utid) order by id"
        ).rows()
        assert shows_calls(session)
    place = {row[5]: at for at, row in enumerate(rows)}
    assert len(expected) > 250
    assert [(tid, name, place.get(parent, -1), dur) for tid, name, parent, dur, *_ in rows] == [*map(tuple, expected)]
    own = [took - sum(each[3] for each in expected if each[2] == at) for at, (*_, took) in enumerate(expected)]
    assert [row[4] for row in rows] == own
