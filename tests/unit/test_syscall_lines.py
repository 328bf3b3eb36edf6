"""Events as strace's lines. What is expected is what strace 6.1 has printed for the same scenario."""

import struct
from collections.abc import Sequence

import pytest

from insitu.syscalls.call import (
    Call,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Pieces,
    Signal,
    Stopped,
)
from insitu.syscalls.decode import Decoder
from insitu.syscalls.selection import Selection
from insitu.views.syscalls.lines import LineOptions, LinePrinter
from insitu.views.syscalls.separate_lines import SeparateLines
from insitu.views.syscalls.timestamps import TimeOptions

READ, WRITE, OPEN, CLOSE, NEWFSTATAT, EXECVE, EXIT_GROUP, PAUSE, BIND = 0, 1, 257, 3, 262, 59, 231, 34, 49
AT_FDCWD = 0xFFFFFF9C
PATH, BUFFER = 0x1000, 0x2000


def enter(ts: int, tid: int, nr: int, *args: int, memory: Sequence[tuple[int, bytes]] = (), pid: int = 0) -> Enter:
    return Enter(ts, pid or tid, tid, "x86_64", nr, (*args, *(0,) * (6 - len(args))), Pieces(memory))


def left(ts: int, tid: int, ret: int, memory: Sequence[tuple[int, bytes]] = ()) -> Exit:
    return Exit(ts, tid, tid, ret, Pieces(memory))


def printed(
    *batches: Sequence[Event], options: LineOptions | None = None, selection: Selection | None = None
) -> list[str]:
    text: list[str] = []
    printer = LinePrinter(options or LineOptions(), Decoder(), text.append, selection=selection)
    for batch in batches:
        printer.deliver(batch)
    printer.finish()
    return "".join(text).splitlines()


def test_a_call_is_one_line_with_its_result_in_column_40() -> None:
    assert printed([enter(1, 10, CLOSE, 3), left(2, 10, 0)]) == ["close(3)                                = 0"]


def test_a_long_line_has_one_space_before_its_result() -> None:
    path = [(PATH, b"/etc/ld.so.cache\0")]
    assert printed([enter(1, 10, OPEN, AT_FDCWD, PATH, 0o2000000, memory=path), left(2, 10, 3)]) == [
        'openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3'
    ]


def test_calls_that_differ_in_memory_or_result_alone_have_their_own_text() -> None:
    events = []
    for ts, (data, ret) in enumerate([(b"ab", 2), (b"ab", 2), (b"cd", 2), (b"cd", 1), (b"", -9), (b"ab", 2)]):
        events += [enter(2 * ts, 10, READ, 3, BUFFER, 2), left(2 * ts + 1, 10, ret, [(BUFFER, data)] if data else ())]
    assert [" ".join(line.split()) for line in printed(events)] == [
        'read(3, "ab", 2) = 2',
        'read(3, "ab", 2) = 2',
        'read(3, "cd", 2) = 2',
        'read(3, "c", 2) = 1',
        "read(3, 0x2000, 2) = -1 EBADF (Bad file descriptor)",
        'read(3, "ab", 2) = 2',
    ]


def test_what_is_remembered_of_a_program_is_bounded() -> None:
    decoder = Decoder()
    for value in range(20_000):
        decoder.text(Call(enter(1, 10, 1_000 + value, value), left(2, 10, value)))
        decoder.text(Call(enter(1, 10, CLOSE, value), left(2, 10, 0)))
    assert max(len(decoder._plans), len(decoder._texts)) <= 4096


def test_the_name_of_an_interface_is_asked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(("eth0", "wan0"))
    monkeypatch.setattr("socket.if_indextoname", lambda index: next(names))
    address = [(PATH, struct.pack("<HHi12x", 17, 0, 2))]  # struct sockaddr_ll
    events = [
        each
        for ts in range(2)
        for each in (enter(2 * ts, 10, BIND, 3, PATH, 20, memory=address), left(2 * ts + 1, 10, 0))
    ]
    first, second = printed(events)
    assert 'if_nametoindex("eth0")' in first
    assert 'if_nametoindex("wan0")' in second


def test_another_thread_interrupts_a_line_which_is_resumed_later() -> None:
    events = [
        enter(1, 24956, CLOSE, 3),
        Forked(2, 24956, 24956, 24955, 24955),
        enter(3, 24955, NEWFSTATAT, 3, PATH, 0x3000, 0x1000, memory=[(PATH, b"\0")]),
        left(4, 24956, 0),
        left(5, 24955, -2),
        enter(6, 24956, READ, 5, BUFFER, 10),
        enter(7, 24955, CLOSE, 4),
        left(8, 24955, 0),
        left(9, 24956, 4, [(BUFFER, b"abcd")]),
    ]
    assert printed(events) == [
        "close(3 <unfinished ...>",
        '[pid 24955] newfstatat(3, "",  <unfinished ...>',
        "[pid 24956] <... close resumed>)        = 0",
        "[pid 24955] <... newfstatat resumed>0x3000, AT_EMPTY_PATH) = -1 ENOENT (No such file or directory)",
        "[pid 24956] read(5,  <unfinished ...>",
        "[pid 24955] close(4)                    = 0",
        '[pid 24956] <... read resumed>"abcd", 10) = 4',
    ]


def test_how_events_are_batched_does_not_change_the_lines() -> None:
    events: list[Event] = [
        enter(1, 10, CLOSE, 3),
        Forked(2, 10, 10, 11, 11),
        enter(3, 11, READ, 5, BUFFER, 10),
        left(4, 10, 0),
        left(5, 11, 4, [(BUFFER, b"abcd")]),
        enter(6, 10, EXIT_GROUP, 1),
        Exited(7, 10, 10, 1 << 8),
    ]
    assert printed(events) == printed(*[[event] for event in events])


def test_a_call_that_waits_is_shown_as_far_as_it_is_known() -> None:
    text: list[str] = []
    printer = LinePrinter(LineOptions(), Decoder(), text.append)
    printer.deliver([enter(1, 10, READ, 0, BUFFER, 10)])
    assert text == ["read(0, "]


def test_a_call_that_runs_when_tracing_ends_is_detached() -> None:
    assert printed([enter(1, 10, READ, 0, BUFFER, 10)]) == ["read(0,  <detached ...>"]


def test_exits_and_calls_that_never_return() -> None:
    events = [
        enter(1, 10, EXIT_GROUP, 0),
        Exited(2, 10, 10, 0),
        enter(3, 11, READ, 0, BUFFER, 10),
        Exited(4, 11, 11, 9),
        Exited(5, 12, 12, 11 | 0x80),
        enter(6, 13, PAUSE),
        Exited(7, 13, 13, 15),
    ]
    assert printed(events) == [
        "exit_group(0)                           = ?",
        "+++ exited with 0 +++",
        "read(0,  <unfinished ...>)              = ?",
        "+++ killed by SIGKILL +++",
        "+++ killed by SIGSEGV (core dumped) +++",
        "pause()                                 = ?",
        "+++ killed by SIGTERM +++",
    ]


def test_signals_show_what_their_kind_has() -> None:
    events: list[Event] = [
        Signal(1, 10, 10, 17, 1, 0, 11, 0, 3),
        Signal(2, 10, 10, 17, 2, 0, 11, 0, 15),
        Signal(3, 10, 10, 11, 1, address=0x10),
        Signal(4, 10, 10, 11, 0, 0, 7, 1000),
        Signal(5, 10, 10, 15, -6, 0, 7, 1000),
        Signal(6, 10, 10, 35, -1, 0, 7, 1000, value=42),
        Stopped(7, 10, 10, 19),
    ]
    assert printed(events) == [
        "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=11, si_uid=0, si_status=3, "
        "si_utime=0, si_stime=0} ---",
        "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=11, si_uid=0, si_status=SIGTERM, "
        "si_utime=0, si_stime=0} ---",
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10} ---",
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SI_USER, si_pid=7, si_uid=1000} ---",
        "--- SIGTERM {si_signo=SIGTERM, si_code=SI_TKILL, si_pid=7, si_uid=1000} ---",
        "--- SIGRT_3 {si_signo=SIGRT_3, si_code=SI_QUEUE, si_pid=7, si_uid=1000, si_value={int=42, ptr=0x2a}} ---",
        "--- stopped by SIGSTOP ---",
    ]


def test_an_execve_of_another_thread_supersedes_the_first() -> None:
    path = [(PATH, b"/bin/true\0")]
    events = [
        Forked(1, 10, 10, 10, 11),
        enter(2, 11, EXECVE, PATH, 0, 0, memory=path, pid=10),
        Executed(3, 10, 10, 11),
        left(4, 10, 0),
    ]
    assert printed(events) == [
        '[pid    11] execve("/bin/true", NULL, NULL <pid changed to 10 ...>',
        "+++ superseded by execve in pid 11 +++",
        "<... execve resumed>)                   = 0",
    ]


def test_losses_are_lines_where_they_happened() -> None:
    events: list[Event] = [enter(1, 10, READ, 0, BUFFER, 10), LostHere(2, 7), left(3, 10, 0)]
    assert printed(events) == [
        "read(0,  <unfinished ...>",
        "... 7 events lost here ...",
        '<... read resumed>"", 10)               = 0',
    ]


def test_the_exit_of_a_call_whose_entry_is_lost_is_not_shown() -> None:
    assert printed([left(1, 10, 0), enter(2, 10, CLOSE, 3), left(3, 10, 0)]) == [
        "close(3)                                = 0"
    ]


def test_control_characters_never_reach_the_output() -> None:
    path = [(PATH, b"a\nb\x1b[2J\x9b\0")]
    (line,) = printed([enter(1, 10, OPEN, AT_FDCWD, PATH, 0, memory=path), left(2, 10, 3)])
    assert line.isprintable()
    assert line == 'openat(AT_FDCWD, "a\\nb\\33[2J\\233", O_RDONLY) = 3'


def test_times_stand_in_front_as_strace_has_them() -> None:
    events = [enter(1_500_000_000, 10, CLOSE, 3), left(1_500_002_000, 10, 0)]
    events += [enter(1_500_129_000, 10, CLOSE, 3), left(1_500_131_000, 10, 0)]
    unix = TimeOptions("unix", 6, realtime_offset_ns=1_795_764_957_000_000_000)
    assert printed(events[:2], options=LineOptions(times=unix)) == [
        "1795764958.500000 close(3)              = 0",
    ]
    both = unix._replace(relative_digits=6, duration_digits=6, absolute_digits=0)
    assert printed(events, options=LineOptions(times=both)) == [
        "1795764958 (+     0.000000) close(3)    = 0 <0.000002>",
        "1795764958 (+     0.000129) close(3)    = 0 <0.000002>",
    ]
    alone = TimeOptions(relative_digits=9)
    assert printed(events[:2], options=LineOptions(times=alone)) == ["     0.000000000 close(3)               = 0"]


def test_numbers_and_ids_stand_in_front() -> None:
    events = [enter(1, 10, CLOSE, 3), left(2, 10, 0), Exited(3, 10, 10, 0)]
    assert printed(events, options=LineOptions(numbers=True)) == [
        "[   3] close(3)                         = 0",
        "[   3] +++ exited with 0 +++",
    ]
    assert printed(events, options=LineOptions(pids="always")) == [
        "10    close(3)                          = 0",
        "10    +++ exited with 0 +++",
    ]


def test_data_is_dumped_as_strace_does() -> None:
    data = b"hellohellohello123\n"
    events = [enter(1, 10, WRITE, 1, BUFFER, 19, memory=[(BUFFER, data)]), left(2, 10, 19)]
    assert printed(events, options=LineOptions(dump_writes=frozenset((1,))))[1:] == [
        " | 00000  68 65 6c 6c 6f 68 65 6c  6c 6f 68 65 6c 6c 6f 31  hellohellohello1 |",
        " | 00010  32 33 0a                                          23.              |",
    ]
    assert len(printed(events, options=LineOptions(dump_writes=frozenset((2,))))) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("failed", ["close(3)                                = -1 EBADF (Bad file descriptor)"]),
        ("successful", ["close(4)                                = 0"]),
    ],
)
def test_a_status_selects_whole_lines(status: str, expected: list[str]) -> None:
    events = [
        enter(1, 10, CLOSE, 3),
        Forked(2, 11, 11, 11, 12),
        left(3, 10, -9),
        enter(4, 10, CLOSE, 4),
        Signal(5, 10, 10, 17),
        left(6, 10, 0),
    ]
    lines = printed(
        events,
        selection=Selection(statuses=frozenset((status,))),
        options=LineOptions(pids="never", signals=frozenset()),
    )
    assert lines == expected


def test_each_thread_has_a_file_of_its_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    separate = SeparateLines(
        str(tmp_path / "out"), lambda write: LinePrinter(LineOptions(pids="never"), Decoder(), write)
    )
    separate.deliver([enter(1, 10, READ, 0, BUFFER, 4), Forked(2, 10, 10, 11, 11), enter(3, 11, CLOSE, 3)])
    separate.deliver([left(4, 11, 0), left(5, 10, 0)])
    separate.finish()
    assert (tmp_path / "out.10").read_text() == 'read(0, "", 4)                          = 0\n'
    assert (tmp_path / "out.11").read_text() == "close(3)                                = 0\n"


def test_the_text_of_one_call_is_bounded() -> None:
    path = [(PATH, b"x" * 4096)]
    (line,) = printed([enter(1, 10, OPEN, AT_FDCWD, PATH, 0, memory=path), left(2, 10, 3)])
    assert len(line) < 3 * 4096
