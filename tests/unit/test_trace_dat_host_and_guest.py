"""Files of a host and of its guest in one session, against what trace-cmd report prints of each.

The pair is made of files of two machines with two CPUs each, which number threads alike: options were added by which
release_3.4 is the guest "vm" of version_7_plain, whose clock is _AHEAD_NS before the guest's.
"""

import gzip
import re
import struct
from collections import Counter

import pytest
from tests.unit import trace_dat_files as files
from tests.unit.trace_processor import trace_processor

from insitu.cli import main
from insitu.convert.formats.chrome import export_chrome
from insitu.convert.formats.perfetto import export_perfetto
from insitu.convert.formats.registry import ExportOptions, ImportOptions
from insitu.convert.formats.trace_dat_file import Option
from insitu.convert.open import import_file, open_session
from insitu.views.timeline.tables import timeline

_GUEST_ID = 7865090812733078830
_AHEAD_NS = 79_762_000_000_000
_FIRST_CPU = 2
_MACHINE_PIDS = 1 << 23


# Which thread of the host runs which CPU of the guest: that of CPU 0 has no events, that of CPU 2 is not known to
# trace-cmd, and the guest has no CPU 7.
_HOST_TIDS = {0: 31337, 1: 19707, 2: -1, 7: 19708}


def _host(directory, name="vm", tids=()):
    told = name.encode() + b"\0" + struct.pack("<QI", _GUEST_ID, len(tids))
    told += b"".join(struct.pack("<Ii", *pair) for pair in tids)
    return files.with_options(files.file("version_7_plain", directory), {Option.GUEST: told})


def _guest(directory):
    measured = struct.pack("<QII", 1, 0, 2) + 2 * struct.pack("<Iqqq", 1, 0, _AHEAD_NS, 1)
    return files.with_options(files.file("release_3.4", directory), {Option.TIME_SHIFT: measured})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Sessions: both, the host and the guest alone."""
    home = tmp_path_factory.mktemp("pair")
    host, guest = _host(home, tids=tuple(_HOST_TIDS.items())), _guest(home)
    both, alone, on_host = (home / name for name in ("both.insitu", "host.insitu", "guest.insitu"))
    assert main(["import", str(host), "--guest", str(guest), "-o", str(both)]) == 0
    import_file(host, alone)
    import_file(guest, on_host, ImportOptions(host=host))
    return both, alone, on_host


@pytest.fixture
def both(runs):
    with open_session(runs[0]) as session:
        yield session


def _printed():
    """(machine, buffer, event, time, CPU, tid) of each line of both reports."""
    host = [(0, line.buffer, line.event, line.ts_ns, line.cpu, line.tid) for line in files.report("events")]
    return host + [
        (1, line.buffer, line.event, line.ts_ns + _AHEAD_NS, line.cpu + _FIRST_CPU, line.tid)
        for line in files.report("release_3.4")
        if line.event != "kernel_stack"
    ]


def test_events_of_both_are_those_that_their_reports_print(both):
    threads = {
        utid: (machine, tid)
        for utid, machine, tid in both.sql("select utid, machine, tid from thread join process using (upid)").rows()
    }
    found = []
    for table in both.tables:
        if table.startswith("event."):
            buffer, _, event = table.removeprefix("event.").rpartition(".")
            machine = int(buffer.split(".")[0] == "vm")
            buffer = buffer.removeprefix("vm").removeprefix(".")
            for ts_ns, cpu, utid in both[table].select("ts_ns", "cpu", "utid").rows():
                assert utid == 0 or threads[utid][0] == machine
                found.append((machine, buffer, event, ts_ns, cpu, threads[utid][1]))
    assert sorted(found) == sorted(_printed())


def test_a_tid_of_both_machines_is_two_threads_with_their_own_names(both):
    host, guest = (
        dict(both.sql(f"select tid, thread.name from thread join process using (upid) where machine = {m}").rows())
        for m in (0, 1)
    )
    assert {tid for tid in host if tid} & {tid for tid in guest if tid}
    for machine, name in ((host, "events"), (guest, "release_3.4")):
        printed = {line.tid: line.comm for line in files.report(name) if line.tid and line.comm != "<...>"}
        assert printed
        assert {tid: machine[tid] for tid in printed} == printed


def test_the_machines_say_which_cpus_are_theirs(both):
    assert both.sql("select id, name, kernel, first_cpu, cpus, events from machine").rows() == [
        (0, "vm", "6.18.44-fc-v769", 0, 2, ""),  # its host name is vm, too
        (1, "vm", "6.12.117+deb12-amd64", 2, 2, "vm."),
    ]


def test_the_threads_of_the_host_that_run_the_guests_cpus_are_kept(both, runs):
    rows = """select v.cpu, machine.name, v.cpu - first_cpu, tid, process.machine from virtual_cpu v
        join machine on machine.id = v.machine join thread using (utid) join process using (upid) order by v.cpu"""
    assert both.sql(rows).rows() == [
        (_FIRST_CPU, "vm", 0, _HOST_TIDS[0], 0),
        (_FIRST_CPU + 1, "vm", 1, _HOST_TIDS[1], 0),
    ]
    # The thread is the one that the host's events have.
    ran = both.sql("select count(*) from thread_state join virtual_cpu using (utid) where state = 'running'").item()
    assert ran
    for alone in runs[1:]:
        with open_session(alone) as session:
            assert "virtual_cpu" not in session.tables


def test_the_timeline_knows_the_threads_that_run_the_guests_cpus(both):
    meta = timeline(both).meta
    threads, known = meta["threads"], meta["virtualCpus"]
    assert known["cpu"] == [_FIRST_CPU, _FIRST_CPU + 1]
    assert [threads["tid"][thread] for thread in known["thread"]] == [_HOST_TIDS[0], _HOST_TIDS[1]]
    assert [meta["processes"]["machine"][threads["process"][thread]] for thread in known["thread"]] == [0, 0]


def test_a_list_of_a_guests_cpus_that_ends_too_early_is_damage(tmp_path, capsys):
    told = b"vm\0" + struct.pack("<QIIi", _GUEST_ID, 3, 0, 19707)
    host = files.with_options(files.file("version_7_plain", tmp_path), {Option.GUEST: told})
    assert main(["import", str(host), "-o", str(tmp_path / "run.insitu")]) == 1
    assert "damaged trace.dat" in capsys.readouterr().err


def test_thread_states_and_system_calls_are_those_of_each_alone(runs):
    states = "select ts_ns, dur_ns, {}, state, tid from thread_state join thread using (utid)"
    spans = "select ts_ns, dur_ns, {}, span.name, tid from span join thread using (utid)"
    cpus = "case when cpu < 0 then -1 else cpu + {} end"
    found = [[], []]
    for run, first_cpu in zip(runs, (0, 0, _FIRST_CPU), strict=True):
        with open_session(run) as session:
            for rows, sql in zip(found, (states, spans), strict=True):
                if "span" in session.tables or sql is states:
                    rows.append(Counter(session.sql(sql.format(cpus.format(first_cpu))).rows()))
    for merged, *alone in found:
        assert merged == sum(alone, Counter())
    assert len(found[0]) == 3
    assert {row[2] for row in found[0][0]} >= {0, 3}


def test_the_timeline_names_the_machine_of_processes_and_cpus(both):
    made = timeline(both)
    meta = made.meta
    assert meta["machines"] == {"name": ["vm", "vm"], "firstCpu": [0, 2]}
    machine = [meta["processes"]["machine"][process] for process in meta["threads"]["process"]]
    assert {machine[thread] for thread in made.arrays["stateThread"][made.arrays["stateCpu"] > _FIRST_CPU]} == {1}
    assert {machine[thread] for thread in made.arrays["stateThread"][made.arrays["stateCpu"] == 1]} == {0}
    assert not {name for name in meta["events"] if "sched_switch" in name or "sched_waking" in name}


def _gaps(name):
    """How often the thread that leaves a CPU is not the one that got it: others have no events here."""
    on_cpu, found = {}, 0
    for line in files.report(name):
        if line.event == "sched_switch":
            found += on_cpu.get(line.cpu, line.fields["prev_pid"]) != line.fields["prev_pid"]
            on_cpu[line.cpu] = line.fields["next_pid"]
    return found


def test_perfetto_keeps_the_threads_and_cpus_of_both_apart(both):
    switches = [row for row in _printed() if row[2] == "sched_switch"]
    with trace_processor(b"".join(export_perfetto(both, ExportOptions("run")))) as asked:
        assert asked.complaints() == {"mismatched_sched_switch_tids": _gaps("events") + _gaps("release_3.4")}
        cpus = dict(asked.query("select cpu, count(*) as n from sched_slice group by cpu"))
        ran = asked.query(
            "select distinct cpu as c, tid as t from sched_slice join thread using (utid) where tid > 0"
        )
        names = dict(asked.query("select pid as p, name as n from process where pid > 0"))
    assert set(cpus) == {row[4] for row in switches}
    assert {cpu >= _FIRST_CPU for cpu, tid in ran if tid > _MACHINE_PIDS} == {True}
    assert {cpu >= _FIRST_CPU for cpu, tid in ran if tid < _MACHINE_PIDS} == {False}
    assert {tid - _MACHINE_PIDS for cpu, tid in ran if cpu >= _FIRST_CPU} >= {
        row[5] for row in switches if row[0] == 1 and row[5]
    }
    assert all(str(name).startswith("vm: ") == (pid > _MACHINE_PIDS) for pid, name in names.items() if name)


def test_chrome_names_the_cpus_of_the_guest(both):
    text = b"".join(export_chrome(both, ExportOptions("run"))).decode()
    assert set(re.findall(r'"name":"((?:vm: )?CPU \d+)"', text)) == {"CPU 0", "vm: CPU 1"}


def test_lines_of_events_say_of_which_machine_they_are(runs, capsys):
    assert main(["events", str(runs[0]), "-q"]) == 0
    line = re.compile(r" *\S.*-\d+ +\[(\d+)\] +(\d+)\.\d{6}: (vm: )?(\w+): .*")
    found = Counter(
        (bool(m[3]), m[4], int(m[1]), int(m[2]))
        for m in map(line.fullmatch, capsys.readouterr().out.splitlines())
        if m
    )
    assert found == Counter(
        (bool(machine), event, cpu - machine * _FIRST_CPU, (ts_ns + 500) // 10**9)
        for machine, _, event, ts_ns, cpu, _ in _printed()
    )


def test_a_trace_dat_is_of_one_machine(runs, tmp_path, capsys):
    assert main(["export", str(runs[0]), "-o", str(tmp_path / "both.dat")]) == 1
    assert "a trace.dat is of one machine" in capsys.readouterr().err
    assert not (tmp_path / "both.dat").exists()


def test_a_pair_of_trace_cmd_has_the_events_of_its_report_and_each_switch_on_both_clocks(tmp_path):
    host, guest = files.file("pair_host", tmp_path), files.file("pair_guest", tmp_path)
    import_file(host, tmp_path / "run.insitu", ImportOptions(guests=(guest,)))
    text = gzip.decompress((files.HERE / "pair.report.gz").read_bytes()).decode()
    line = re.compile(
        r" *(hostbuf|trace-1\.dat): .*-(\d+) +\[(\d+)\] +(\d+)\.(\d{9}): sched_switch: .*next_pid=(\d+) .*"
    )
    printed = {"hostbuf": [], "trace-1.dat": []}
    for found in filter(None, map(line.fullmatch, text.splitlines())):
        tid, cpu, seconds, ns, following = map(int, found.groups()[1:])
        printed[found[1]].append((seconds * 10**9 + ns, cpu, tid, following))
    with open_session(tmp_path / "run.insitu") as session:
        switches = "select ts_ns, cpu - {}, tid, next_pid from {} join thread using (utid) order by ts_ns"
        of_host = session.sql(switches.format(0, '"event.hostbuf".sched_switch')).rows()
        of_guest = session.sql(switches.format(2, '"event.guest_1".sched_switch')).rows()
    assert (of_host, of_guest) == (printed["hostbuf"], printed["trace-1.dat"])
    # One kernel wrote both. Which of two CPUs was first, its clocks say to some microseconds only.
    for cpu in (0, 1):
        one, other = ([row for row in rows if row[1] == cpu] for rows in (of_host, of_guest))
        shared = max(one[0][0], other[0][0]) + 10**6
        first = next(row for row in one if row[0] > shared)
        start = min(range(len(other)), key=lambda at: abs(other[at][0] - first[0]))
        pairs = list(zip(one[one.index(first) :], other[start:], strict=False))
        assert len(pairs) > 300
        assert [row[2:] for row, _ in pairs] == [row[2:] for _, row in pairs]
        assert max(abs(row[0] - same[0]) for row, same in pairs) < 10**6


def test_a_guest_of_trace_cmd_that_has_only_a_number(tmp_path):
    host, guest = (files.file(name, tmp_path) for name in ("host", "guest"))
    run = tmp_path / "run.insitu"
    assert main(["import", str(host), "--guest", str(guest), "-o", str(run)]) == 0
    with open_session(run) as session:
        assert session.sql("select name, events from machine where id = 1").rows() == [("guest 1", "guest_1.")]
        assert len(session["event.guest_1.sched_waking"]) == 106


@pytest.mark.parametrize(("name", "prefix"), [("Calls", "Calls_2."), ("a/b\x1b[31m", "a_b__31m."), ("", "guest.")])
def test_any_name_of_a_guest_makes_tables_of_its_own(name, prefix, tmp_path):
    guest = _guest(tmp_path)
    told = name.encode() + b"\0" + struct.pack("<QI", _GUEST_ID, 0)
    (tmp_path / "of_host").mkdir()
    host = files.with_options(
        files.file("release_3.4", tmp_path / "of_host"), {Option.GUEST: told}
    )  # with a buffer calls
    import_file(host, tmp_path / "run.insitu", ImportOptions(guests=(guest,)))
    with open_session(tmp_path / "run.insitu") as session:
        assert session.sql("select events from machine where id = 1").item() == prefix
        assert len(session[f"event.{prefix}sched_switch"]) == 27


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["{host}", "--guest", "{guest}", "--guest", "{guest}"], 1, "given twice"),
        (["{host}", "--guest", "{host}"], 1, "does not say how its clock differs"),
        (["{guest}", "--guest", "{guest}"], 1, "not recorded with"),
        (["{host}", "--guest", "{guest}", "--host", "{host}"], 2, "--host and --guest"),
        (["{folded}", "--guest", "{guest}"], 2, "--guest is for the trace.dat of a host"),
        (["-", "--guest", "{guest}"], 2, "--guest is for the trace.dat of a host"),
        (["{host}", "--guest", "{nothing}"], 1, "nothing.dat"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(arguments, status, said, tmp_path, capsys):
    (tmp_path / "a.folded").write_text("a;b 3\n")
    paths = {"host": _host(tmp_path), "guest": _guest(tmp_path)}
    paths |= {"folded": tmp_path / "a.folded", "nothing": tmp_path / "nothing.dat"}
    run = tmp_path / "run.insitu"
    assert main(["import", *(each.format(**paths) for each in arguments), "-o", str(run)]) == status
    assert said in capsys.readouterr().err
    assert not run.exists()
