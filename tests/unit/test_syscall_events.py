"""Spans of system calls from raw_syscalls events, against the lines of trace-cmd report."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.unit import trace_dat_files as files

from insitu.convert.open import import_file, open_session
from insitu.convert.syscall_events import SyscallEvents
from insitu.kernel import procfs
from insitu.session.manifest import Manifest
from insitu.session.writer import MemoryTables, SessionWriter

_HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def _names() -> dict[int, str]:
    """The names of x86-64's calls, by the kernel's header."""
    if not _HEADER.exists():
        pytest.skip("needs the kernel's headers, Debian's package linux-libc-dev")
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", _HEADER.read_text())}


def _calls(lines):
    """(start, duration, thread, name) of each entry, by a walk over the lines."""
    names, found, open_calls = _names(), [], {}
    for line in sorted(lines, key=lambda each: each.ts_ns):
        if line.event == "sys_enter":
            open_calls[line.tid] = len(found)
            found.append((line.ts_ns, None, line.tid, names[line.fields["id"]]))
        elif line.event == "sys_exit" and line.tid in open_calls:
            at = open_calls.pop(line.tid)
            found[at] = (found[at][0], line.ts_ns - found[at][0], *found[at][2:])
    return found


def test_entries_and_exits_become_spans(tmp_path):
    import_file(files.file("syscalls", tmp_path), tmp_path / "run.insitu")
    with open_session(tmp_path / "run.insitu") as session:
        found = session.sql(
            "select ts_ns, dur_ns, tid, span.name from span join thread using (utid) where category = 'syscall'"
        ).rows()
    expected = _calls(files.report("syscalls"))
    assert len(expected) == 116
    assert None in [row[1] for row in expected]  # exit_group() does not return
    assert sorted(found, key=str) == sorted(expected, key=str)


def _events(rows):
    """(label, columns, tids) of each (label, time, thread, number)."""
    for label, ts_ns, tid, number in rows:
        field = "id" if label.startswith("raw") else "__syscall_nr"
        columns = {"ts_ns": np.array([ts_ns]), "cpu": np.zeros(1, np.int32), field: np.array([number])}
        yield label, columns, np.array([tid], np.int32)


def _spans(*windows):
    """(start, duration, name) of what windows of (until, events) make."""
    tables = MemoryTables()
    writer = SessionWriter(tables, Manifest.imported(procfs, "test"))
    events = SyscallEvents(writer, "x86_64")
    for until_ns, rows in windows:
        for each in _events(rows):
            events.add(*each)
        events.write(until_ns)
    events.finish()
    writer.finish()
    if "span" not in tables.tables:
        return []
    columns = (tables.column("span", name) for name in ("ts_ns", "dur_ns", "name"))
    return sorted(zip(*(column if isinstance(column, list) else column.tolist() for column in columns), strict=True))


_ENTER, _EXIT = "raw_syscalls:sys_enter", "raw_syscalls:sys_exit"


def test_a_call_is_joined_over_windows_that_other_cpus_complete_later():
    first = [(_ENTER, 10, 7, 0), (_EXIT, 40, 8, 1)]  # the entry of thread 8 comes with the next window
    second = [(_ENTER, 25, 8, 1), (_EXIT, 50, 7, 0)]
    assert _spans((20, first), (60, second)) == [(10, 40, "read"), (25, 15, "write")]


def test_an_exit_without_its_entry_ends_no_call():
    rows = [
        (_EXIT, 4, 7, -1),
        (_EXIT, 5, 7, 0),
        (_ENTER, 10, 7, 1),
        (_EXIT, 20, 7, 0),
        (_ENTER, 30, 7, 0),
        (_EXIT, 33, 7, 0),
    ]
    assert _spans((100, rows)) == [(10, None, "write"), (30, 3, "read")]


def test_rt_sigreturn_is_ended_by_the_exit_that_has_no_number():
    rows = [(_ENTER, 10, 7, 15), (_EXIT, 20, 7, -1)]
    assert _spans((100, rows)) == _spans((10, rows[:1]), (100, rows[1:])) == [(10, 10, "rt_sigreturn")]


def test_entries_without_events_of_exits_are_no_spans():
    assert _spans((100, [(_ENTER, 10, 7, 0), (_ENTER, 20, 7, 0)])) == []
    enter = ("syscalls:sys_enter_read", "syscalls:sys_enter_write")
    rows = [(enter[0], 10, 7, 0), (enter[1], 20, 7, 1), ("syscalls:sys_exit_write", 25, 7, 1), (enter[0], 30, 7, 0)]
    assert _spans((100, rows)) == [(20, 5, "write")]


def test_events_of_both_kinds_make_each_call_once():
    one = ("syscalls:sys_enter_read", "syscalls:sys_exit_read")
    rows = [(_ENTER, 10, 7, 0), (one[0], 11, 7, 0), (one[1], 19, 7, 0), (_EXIT, 20, 7, 0)]
    assert _spans((100, rows)) == [(10, 10, "read")]
    assert _spans((100, rows[1:3])) == [(11, 8, "read")]
