"""The file of a guest that trace-cmd recorded together with its host, and the clocks of both."""

import gzip
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import trace_dat_files as files

from insitu.cli import main
from insitu.convert.formats.trace_dat_clock import read_time_shift
from insitu.convert.formats.trace_dat_sections import Cursor
from insitu.convert.open import open_session
from insitu.errors import InsituError

_LINE = re.compile(
    r".*-(?P<tid>\d+) +\[(?P<cpu>\d+)\] .*? (?P<s>\d+)\.(?P<ns>\d{9}): sched_waking: .* pid=(?P<pid>\d+) .*"
)


def _report():
    """(time, CPU, thread, woken thread) of each line."""
    text = gzip.decompress((files.HERE / "guest.report.gz").read_bytes()).decode()
    found = filter(None, map(_LINE.fullmatch, text.splitlines()))
    return [(int(m["s"]) * 10**9 + int(m["ns"]), int(m["cpu"]), int(m["tid"]), int(m["pid"])) for m in found]


def _wakings(run):
    with open_session(run) as session:
        sql = "select ts_ns, cpu, tid, pid from event.sched_waking join thread using (utid)"
        return sorted(session.sql(sql).rows()), session.manifest.notes


def test_a_guests_times_are_those_of_its_hosts_clock(tmp_path):
    guest, host = (files.file(name, tmp_path) for name in ("guest", "host"))
    assert main(["import", str(guest), "--host", str(host), "-o", str(tmp_path / "on_host.insitu")]) == 0
    assert main(["import", str(guest), "-o", str(tmp_path / "own.insitu")]) == 0
    found, _ = _wakings(tmp_path / "on_host.insitu")
    own, notes = _wakings(tmp_path / "own.insitu")
    assert len(found) == 106
    assert found == sorted(_report())
    assert [row[1:] for row in own] == [row[1:] for row in found]
    assert all(row[0] != other[0] for row, other in zip(own, found, strict=True))
    assert any("--host HOST.dat" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "host", "said"),
    [
        ("guest", "release_3.4", "not recorded with"),
        ("release_3.4", "host", "does not say how its clock differs"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(name, host, said, tmp_path, capsys):
    run = tmp_path / "run.insitu"
    command = ["import", str(files.file(name, tmp_path)), "--host", str(files.file(host, tmp_path)), "-o", str(run)]
    assert main(command) == 1
    assert said in capsys.readouterr().err
    assert not run.exists()


def test_a_host_is_for_trace_dat_alone(tmp_path, capsys):
    (tmp_path / "a.folded").write_text("a;b 3\n")
    assert main(["import", str(tmp_path / "a.folded"), "--host", "x.dat", "-o", str(tmp_path / "run.insitu")]) == 2
    assert "--host is for the trace.dat of a guest" in capsys.readouterr().err


def _option(flags, cpus):
    """The bytes of TIME_SHIFT: of each CPU a list of (time, offset, scaling, fraction)."""
    data = struct.pack("<QII", 1, flags, len(cpus))
    for samples in cpus:
        data += struct.pack("<I", len(samples))
        for column in range(3):
            data += struct.pack(f"<{len(samples)}q", *(sample[column] for sample in samples))
    return data + b"".join(struct.pack(f"<{len(each)}q", *(sample[3] for sample in each)) for each in cpus)


def _read(data):
    return read_time_shift(Cursor(memoryview(data), "x.dat"))


@given(
    st.lists(st.integers(0, 10**15), min_size=2, max_size=5, unique=True),
    st.lists(st.integers(-(10**3), 10**3), min_size=5, max_size=5),
    st.integers(0, 10**15),
    st.booleans(),
)
def test_offsets_are_interpolated_between_the_measurements_around_a_time(times, offsets, ts, interpolate):
    times.sort()
    samples = [(time, offset, 3, 1) for time, offset in zip(times, offsets, strict=False)]
    shift = _read(_option(int(interpolate), [[], samples]))
    before = max((at for at, time in enumerate(times[:-1]) if time <= ts), default=0)
    (low, offset, *_), (high, next_offset, *_) = samples[before : before + 2]
    if interpolate:
        change = (ts - low) * (next_offset - offset) + (high - low) // 2
        offset += abs(change) // (high - low) * (1 if change > 0 else -1)
    found = shift.host_times(np.array([ts, ts]), np.array([0, 1], np.int32))
    assert found.tolist() == [ts, (ts * 3 >> 1) + offset]


def test_one_measurement_is_an_offset():
    assert _read(_option(1, [[(5, -7, 1, 0)]])).host_times(np.array([100]), np.zeros(1, np.int32)).tolist() == [93]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<QII", 1, 1, 0xFFFFFFFF), "clocks of 4294967295 CPUs"),
        (struct.pack("<QIII", 1, 1, 1, 0xFFFFFFFF), "ends too early"),
        (_option(1, [[(9, 0, 1, 0), (5, 0, 1, 0)]]), "in another order"),
    ],
)
def test_a_damaged_option_is_refused(data, said):
    with pytest.raises(InsituError, match=said):
        _read(data)
