"""Triggers against the format of their event. What is accepted here Debian's 6.1 and 6.12 accept, and what is refused
they refuse: tests/lab/test_event_triggers.py."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.event_formats import ACCEPTED_TRIGGERS, KMALLOC, LATENCY, REFUSED_TRIGGERS, SWITCH, WAKING

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError
from insitu.record.ftrace.triggers import Trigger, parse_trigger

_EVENTS = {each.name: each for each in (KMALLOC, SWITCH, WAKING, LATENCY)}


def _event(category: str, name: str) -> EventFormat:
    if f"{category}:{name}" not in _EVENTS:
        raise InsituError(f"there is no tracepoint {category}:{name}")
    return _EVENTS[f"{category}:{name}"]


def _read(event: str, text: str) -> Trigger:
    return parse_trigger(text, _EVENTS[event], _event, variables=("ts0",), cpus=2)


@pytest.mark.parametrize(("event", "text"), ACCEPTED_TRIGGERS)
def test_a_trigger_that_suits_its_event_is_written_as_it_was_read(event: str, text: str) -> None:
    found = _read(event, text)
    assert _read(event, found.text) == found
    assert found.removal == f"!{found.text}"


@pytest.mark.parametrize(("event", "text", "marked", "message"), REFUSED_TRIGGERS)
def test_an_error_points_at_what_is_wrong(event: str, text: str, marked: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        _read(event, text)
    span = caught.value.span
    assert text[span.start : span.end] == marked
    assert message in caught.value.message


def test_blanks_around_the_parts_of_a_hist_trigger_are_not_written() -> None:
    found = _read(
        "kmem:kmalloc", "hist: keys = call_site.sym".replace(" =", "=").replace("= ", "=") + " : vals=bytes_req"
    )
    assert found.text == "hist:keys=call_site.sym:vals=bytes_req"


def test_a_filter_of_a_trigger_is_checked_too() -> None:
    with pytest.raises(ScriptError, match="did you mean 'bytes_req'"):
        _read("kmem:kmalloc", "stacktrace if bytes_rep > 4096")


def test_what_a_trigger_enables_and_sets_is_known() -> None:
    assert _read("kmem:kmalloc", "enable_event:sched:sched_switch:3").event == ("sched", "sched_switch")
    hist = _read("sched:sched_switch", "hist:keys=next_pid:lat=common_timestamp.usecs-$ts0").hist
    assert hist is not None
    assert hist.variables == ("lat",)
    assert [key.name for key in hist.keys] == ["next_pid"]


_PIECES = ["hist", "keys", "=", ":", "next_pid", ".hex", ".", "vals", ",", "$ts0", "onmax", "(", ")", "save", " if "]


@given(text=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)))
def test_any_text_is_a_trigger_or_an_error_and_what_is_written_reads_the_same(text: str) -> None:
    with suppress(InsituError):
        found = _read("sched:sched_switch", text)
        assert _read("sched:sched_switch", found.text) == found
