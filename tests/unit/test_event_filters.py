"""Event filters against the format of their event: what is accepted, what is written, where an error points."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.event_formats import KMALLOC, OPENAT, SEND_CPUMASK, SWITCH

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError
from insitu.record.ftrace.filters import Comparison, Joined, Negated, parse_filter

# What Documentation/trace/events.rst shows, and one of each operator and type. The kernel of this machine accepts
# and refuses the same, which tests/live/test_event_filters.py checks.
ACCEPTED = [
    (SWITCH, "prev_pid == 0", "prev_pid == 0"),
    (SWITCH, 'prev_comm != "sh"&&next_prio<0x64', 'prev_comm != "sh" && next_prio < 100'),
    (SWITCH, "prev_comm ~ '*sh*' || next_comm ~ '?\"'", 'prev_comm ~ "*sh*" || next_comm ~ \'?"\''),
    (SWITCH, "!(prev_pid >= 010 || prev_state & 2)", "!(prev_pid >= 8 || prev_state & 2)"),
    (SWITCH, "common_pid == 1 && (cpu <= 1 && comm == 'x' || next_prio > -1)", ""),
    (KMALLOC, "(call_site.function == schedule)&&bytes_req>256", ""),
    (KMALLOC, "call_site.function != 0xffffffff81000000", "call_site.function != 0xffffffff81000000"),
    (KMALLOC, "node == -1 && gfp_flags & 18446744073709551615", ""),
    (OPENAT, "filename.ustring ~ '/etc/*'", 'filename.ustring ~ "/etc/*"'),
    (SEND_CPUMASK, "cpumask & CPUS{0, 1-1}", "cpumask & CPUS{0,1}"),
    (SEND_CPUMASK, "CPU != CPUS{1}", "CPU != CPUS{1}"),
]
REFUSED = [
    (SWITCH, "prev_pdi == 3", "prev_pdi", "did you mean 'prev_pid'"),
    (SWITCH, "prev_pid = 3", "=", "expected an operator"),
    (SWITCH, "prev_pid ~ 3", "~", "is a number"),
    (SWITCH, "prev_comm == sh", "sh", "text in quotes"),
    (SWITCH, "prev_comm < 'sh'", "<", "not by <"),
    (SWITCH, "prev_pid == 'sh'", "'sh'", "is not text"),
    (SWITCH, "prev_comm == 'sh", "'", "no closing '"),
    (SWITCH, "prev_pid == 3 prev_pid", "p", "expected && or ||"),
    (SWITCH, "(prev_pid == 3", "(", "without ')'"),
    (SWITCH, "prev_pid == 3)", ")", "without '('"),
    (SWITCH, "prev_pid == 08", "08", "not a number"),
    (SWITCH, "prev_comm == '" + "a" * 256 + "'", "'" + "a" * 256 + "'", "more than 255"),
    (KMALLOC, "ptr == -1", "-1", "does not fit"),
    (KMALLOC, "bytes_req == 18446744073709551616", "18446744073709551616", "does not fit"),
    (KMALLOC, "node.function == schedule", "node", "8 bytes"),
    (KMALLOC, "call_site.function > schedule", ">", "== or !="),
    (SEND_CPUMASK, "cpumask > CPUS{0}", ">", "==, != or &"),
    (SEND_CPUMASK, "cpumask & CPUS{9999999}", "CPUS{9999999}", "is not a CPU"),
]


@pytest.mark.parametrize(("event", "text", "written"), ACCEPTED, ids=[text for _, text, _ in ACCEPTED])
def test_a_filter_that_suits_its_event_is_written_as_it_was_read(event: EventFormat, text: str, written: str) -> None:
    found = parse_filter(text, event)
    assert written in ("", found.text)
    assert parse_filter(found.text, event) == found


@pytest.mark.parametrize(
    ("event", "text", "marked", "message"), REFUSED, ids=[text[:40] for _, text, _, _ in REFUSED]
)
def test_an_error_points_at_what_is_wrong(event: EventFormat, text: str, marked: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_filter(text, event)
    span = caught.value.span
    assert text[span.start : span.end] == marked
    assert message in caught.value.message


def test_an_unknown_field_is_answered_by_all_there_are_with_their_types() -> None:
    with pytest.raises(ScriptError) as caught:
        parse_filter("pid == 3", SWITCH)
    assert "char prev_comm[16], pid_t prev_pid" in caught.value.remedy
    assert "common_pid" in caught.value.remedy


def test_a_cpu_beyond_the_machines_is_refused() -> None:
    assert parse_filter("cpu & CPUS{1}", SWITCH, cpus=2).text == "cpu & CPUS{1}"
    with pytest.raises(ScriptError, match="there are 2 CPUs"):
        parse_filter("cpu & CPUS{2}", SWITCH, cpus=2)


def test_and_binds_more_tightly_than_or() -> None:
    tree = parse_filter("prev_pid == 1 || !prev_pid == 2 && prev_pid == 3", SWITCH).tree
    assert isinstance(tree, Joined)
    assert tree.operator == "||"
    first, second = tree.parts
    assert isinstance(first, Comparison)
    assert isinstance(second, Joined)
    assert second.operator == "&&"
    assert isinstance(second.parts[0], Negated)


def test_syntax_that_older_kernels_lack_is_named() -> None:
    assert parse_filter("prev_pid == 1 || cpu & CPUS{1}", SWITCH).newer_syntax == "CPUS{}"
    assert parse_filter("filename.ustring == 'x'", OPENAT).newer_syntax == ".ustring"
    assert parse_filter("prev_pid == 1", SWITCH).newer_syntax == ""


_PIECES = [
    "prev_pid",
    "prev_comm",
    " ",
    "==",
    "!=",
    "&",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "3",
    "-",
    "'x'",
    '"',
    "~",
    "CPUS{0}",
]


@given(text=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=14).map(" ".join)))
def test_any_text_is_a_filter_or_an_error_and_what_is_written_reads_the_same(text: str) -> None:
    with suppress(InsituError):
        found = parse_filter(text, SWITCH)
        assert parse_filter(found.text, SWITCH) == found
