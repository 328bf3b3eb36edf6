"""strace's -e expressions, -c tables and JSON lines; strace(1)'s manual and its output are what is expected."""

import json

import pytest

from insitu.errors import InsituError
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Exit, Exited, Forked, LostHere, Pieces, Signal
from insitu.syscalls.call_sets import resolve
from insitu.syscalls.chosen_decoder import ChosenDecoder
from insitu.syscalls.decode import Decoder
from insitu.syscalls.facts import facts_of
from insitu.syscalls.qualifiers import parse_qualifiers
from insitu.syscalls.selection import STATUSES, Selection
from insitu.views.syscalls.json_lines import JsonLines
from insitu.views.syscalls.summary import Summary, SummaryRow, column_names, sort_name, summary_lines


def names(text: str) -> set[str]:
    return {facts_of(abi).calls[nr].name for abi, nr in resolve(text) if abi == "x86_64"}


def everything() -> set[str]:
    return {call.name for call in facts_of("x86_64").calls.values()}


def test_a_list_names_calls() -> None:
    assert names("openat,read") == {"openat", "read"}
    assert names("3") == {"close"}
    assert names("none") == set()
    assert names("all") == everything()


def test_an_exclamation_mark_in_front_takes_all_others() -> None:
    assert names("!openat,read") == everything() - {"openat", "read"}
    assert names("%file,!openat") == names("%file") - {"openat"}


def test_sets_have_the_calls_of_straces_manual() -> None:
    assert {"openat", "execve", "newfstatat"} <= names("%file")
    assert "read" not in names("%file")
    assert names("file") == names("%file")
    assert names("%stat") == {"stat"}
    assert names("%%stat") == {"stat", "lstat", "fstat", "newfstatat", "statx"}
    assert names("%pure") == {
        *("getpid", "getuid", "getgid", "geteuid", "getegid", "getppid", "getpgrp", "gettid"),
    }
    assert names("%net") == names("%network")


def test_a_slash_begins_a_regular_expression() -> None:
    assert names("/^get.*id$") >= {"getpid", "getuid", "getsid"}
    assert all("stat" in name for name in names("/stat"))
    with pytest.raises(InsituError, match="regular expression"):
        resolve("/[")


def test_an_unknown_name_offers_the_nearest_unless_it_may_be_unknown() -> None:
    with pytest.raises(InsituError, match="did you mean 'openat'"):
        resolve("opnat")
    with pytest.raises(InsituError, match="did you mean '%file'"):
        resolve("%fil")
    assert names("?opnat,read") == {"read"}


def test_an_abi_may_be_named() -> None:
    assert {abi for abi, _ in resolve("open@64")} == {"x86_64"}
    assert {abi for abi, _ in resolve("open@32")} == {"i386"}


def test_of_one_qualifier_the_last_counts() -> None:
    assert parse_qualifiers(["trace=open", "close"]).calls == resolve("close")
    assert parse_qualifiers(["t=open", "trace=all"]).calls is None


def test_signals_statuses_and_messages_are_sets() -> None:
    found = parse_qualifiers(["signal=!SIGCHLD,io", "status=!failed", "q=exit,attach", "read=3,4", "write=all"])
    assert found.signals == frozenset(range(1, 65)) - {17, 29}
    assert found.statuses == frozenset(STATUSES) - {"failed"}
    assert found.quiet == {"exit", "attach"}
    assert (found.reads, found.writes) == (frozenset((3, 4)), None)
    assert parse_qualifiers(["signal=none"]).signals == frozenset()


def test_injections_add_up() -> None:
    found = parse_qualifiers(["inject=openat:error=ENOENT:when=3+", "fault=read"])
    assert [each.result for each in found.inject] == [-2, -38]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tarce=open", "did you mean 'trace'"),
        ("signal=SIGFOO", "unknown signal"),
        ("status=fialed", "did you mean 'failed'"),
        ("quiet=exits", "did you mean 'exit'"),
        ("read=x", "invalid descriptor"),
        ("verbose=none", "-e raw="),
        ("kvm=vcpu", "tracepoint:kvm"),
    ],
)
def test_what_is_not_understood_is_said(text: str, message: str) -> None:
    with pytest.raises(InsituError) as raised:
        parse_qualifiers([text])
    assert message in str(raised.value)


def call(nr: int, ret: int, dur_ns: int, *args: int, memory: Pieces | None = None) -> Call:
    entered = Enter(0, 10, 10, "x86_64", nr, (*args, *(0,) * (6 - len(args))), memory or Pieces())
    return Call(entered, Exit(dur_ns, 10, 10, ret))


def test_raw_calls_show_numbers_as_strace_does() -> None:
    decoder = ChosenDecoder(TextOptions(), None, resolve("openat,close"))
    opened = call(257, 3, 1, 0xFFFFFF9C, 0x7FFE1723BA9C, 0, 0)
    assert [piece.text for piece in decoder.arguments(opened)] == ["0xffffff9c", "0x7ffe1723ba9c", "0", "0"]
    assert decoder.result(opened) == "0x3"
    assert decoder.result(call(3, 0, 1)) == "0"


STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.22    0.000030          15         2         1 openat
 32.65    0.000016           5         3           close
  6.12    0.000003           3         1           arch_prctl
------ ----------- ----------- --------- --------- ----------------
100.00    0.000049           8         6         1 total
"""


def rows() -> list[SummaryRow]:
    summary = Summary()
    for each in (call(257, 3, 10_000), call(257, -2, 20_000), call(158, 0, 3_000)):
        summary.add(each)
    for ns in (5_000, 5_000, 6_000):
        summary.add(call(3, 0, ns))
    return summary.rows()


def test_the_table_is_laid_out_as_straces() -> None:
    columns = column_names("time-percent,total-time,avg-time,calls,errors,name")
    assert "".join(f"{line}\n" for line in summary_lines(rows(), columns=columns)) == STRACE
    assert summary_lines([]) == []


def test_percentiles_stand_before_the_name_the_last_of_straces_columns() -> None:
    for ours, theirs in zip(summary_lines(rows()), STRACE.splitlines(), strict=True):
        figures, name = theirs[:50], theirs[50:]
        assert ours.startswith(figures)
        assert ours.endswith(name)


def test_the_table_leaves_out_columns_rather_than_wrap() -> None:
    ns = 999_999_999_999_999
    long = SummaryRow("sched_rr_get_interval", 999_999_999, 999_999_999, ns, ns, ns, ns, ns)
    titles = {width: summary_lines([long], width=width)[0].split()[-1:] for width in (60, 80, 120)}
    for width in (60, 80, 120):
        lines = summary_lines([long, *rows()], width=width)
        assert max(map(len, lines)) <= width
        assert lines[2].split()[-1] == "sched_rr_get_interval"
        assert titles[width] == ["syscall"]
    assert "usecs/call" in summary_lines(rows(), width=120)[0]
    usual = summary_lines(rows(), width=80)
    assert " ".join(usual[0].split()) == "% time seconds us/call calls errors p50 us p99 us max us syscall"


def test_the_table_is_sorted_as_asked() -> None:
    order = {
        sort: [line.split()[-1] for line in summary_lines(rows(), sort_name(sort), ("calls", "name"))[2:-2]]
        for sort in ("calls", "name", "avg-time", "errors", "max-time")
    }
    assert order["calls"] == ["close", "openat", "arch_prctl"]
    assert order["name"] == ["arch_prctl", "close", "openat"]
    assert order["avg-time"] == ["openat", "close", "arch_prctl"]
    with pytest.raises(InsituError, match="did you mean"):
        sort_name("cals")
    with pytest.raises(InsituError, match="did you mean"):
        column_names("calls,nam")


@pytest.mark.parametrize("most", [10, 1000, 10**9])
def test_percentiles_are_exact_to_three_per_cent(most: int) -> None:
    summary = Summary()
    values = sorted(1 + (at * 7919) % most for at in range(1, 1001))
    for value in values:
        summary.add(call(3, 0, value))
    (row,) = summary.rows()
    assert row.p50_ns == pytest.approx(values[499], rel=0.032)
    assert row.p99_ns == pytest.approx(values[989], rel=0.032)
    assert (row.min_ns, row.max_ns, row.total_ns) == (values[0], values[-1], sum(values))


def test_json_lines_are_ascii_and_typed() -> None:
    lines: list[str] = []
    printer = JsonLines(Decoder(), lines.append, realtime_offset_ns=1000)
    path = Pieces([(0x1000, b"/a\xff\n\0")])
    printer.deliver(
        [
            Enter(5, 10, 11, "x86_64", 257, (0xFFFFFF9C, 0x1000, 0, 0, 0, 0), path),
            Exit(9, 10, 11, -2),
            Signal(10, 10, 10, 17, 1, 0, 12, 0, 3),
            Forked(11, 10, 10, 12, 12),
            LostHere(12, 3),
            Enter(13, 10, 11, "x86_64", 231, (3, 0, 0, 0, 0, 0)),
            Exited(14, 10, 11, 3 << 8),
        ]
    )
    printer.finish()
    text = "".join(lines)
    assert text.isascii()
    found = [json.loads(line) for line in text.splitlines()]
    assert [each["type"] for each in found] == ["call", "signal", "fork", "lost", "call", "exit"]
    opened = found[0]
    assert (opened["name"], opened["ret"], opened["errno"], opened["dur_ns"]) == ("openat", -2, "ENOENT", 4)
    assert (opened["ts_ns"], opened["unix_ns"], opened["pid"], opened["tid"]) == (5, 1005, 10, 11)
    assert opened["args"][0] == {"name": "dfd", "value": -100, "text": "AT_FDCWD"}
    assert opened["args"][1] == {"name": "filename", "value": 4096, "text": '"/a\\377\\n"', "path": "/a\ufffd\n"}
    assert found[1]["name"] == "SIGCHLD" and found[1]["code"] == "CLD_EXITED" and found[1]["status"] == 3
    assert found[4]["ret"] is None and found[4]["dur_ns"] is None
    assert (found[5]["status"], found[5]["signal"]) == (3, None)


def test_paths_select_calls_by_name_and_by_descriptor() -> None:
    selection = Selection(paths=frozenset(("/etc/passwd",)))
    named = Enter(0, 1, 1, "x86_64", 257, (0xFFFFFF9C, 0x1000, 0, 0, 0, 0), Pieces([(0x1000, b"/etc/passwd\0")]))
    by_descriptor = Enter(0, 1, 1, "x86_64", 0, (3, 0, 0, 0, 0, 0), Pieces([], {3: "/etc/passwd"}))
    other = Enter(0, 1, 1, "x86_64", 0, (4, 0, 0, 0, 0, 0), Pieces([], {4: "/etc/group"}))
    assert [selection.entry(each) for each in (named, by_descriptor, other)] == [True, True, False]


def test_slow_calls_are_selected_by_their_duration() -> None:
    selection = Selection(slower_ns=1_000_000)
    assert selection.returned(call(3, 0, 2_000_000))
    assert not selection.returned(call(3, 0, 999_999))
