"""Pairs of events with a key: what is read, where an error points, and the program that measures them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.event_formats import KMALLOC, SWITCH, WAKING

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError
from insitu.record.ftrace.latencies import latency_request, latency_script

_EVENTS = {each.name: each for each in (KMALLOC, SWITCH, WAKING)}
_PAIR = "sched:sched_waking if prio < 100 -> sched:sched_switch, key pid=next_pid show next_comm, next_prio"


def _event(category: str, name: str) -> EventFormat:
    if f"{category}:{name}" not in _EVENTS:
        raise InsituError(f"there is no tracepoint {category}:{name}")
    return _EVENTS[f"{category}:{name}"]


def test_a_pair_of_events_is_read_with_its_keys_filters_and_fields() -> None:
    found = latency_request(_PAIR, _event)
    assert (found.begin, found.end) == (WAKING, SWITCH)
    assert found.label == "sched_waking_to_sched_switch"
    assert [(one.name, other.name) for one, other in found.keys] == [("pid", "next_pid")]
    assert [field.name for field in found.fields] == ["next_pid", "next_comm", "next_prio"]
    assert found.begin_if is not None
    assert found.begin_if.text == "prio < 100"
    assert found.end_if is None


@pytest.mark.parametrize(
    ("text", "marked", "message"),
    [
        ("sched:sched_waking", "sched:sched_waking", "expected BEGIN -> END"),
        ("sched:sched_wake -> sched:sched_switch, key pid=next_pid", "sched:sched_wake", "there is no tracepoint"),
        ("sched:sched_waking -> sched:sched_switch, key pid=next_pdi", "pid=next_pdi", "did you mean 'next_pid'"),
        ("sched:sched_waking -> sched:sched_switch, key comm=next_pid", "comm=next_pid", "cannot equal"),
        ("sched:sched_waking if pri < 1 -> sched:sched_switch, key pid=next_pid", "pri", "did you mean 'prio'"),
        ("sched:sched_waking -> sched:sched_switch, key pid=next_pid show nex", "nex", "has no field 'nex'"),
    ],
)
def test_an_error_points_at_what_is_wrong(text: str, marked: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        latency_request(text, _event)
    span = caught.value.span
    assert text[span.start : span.end] == marked
    assert message in caught.value.message


def test_single_threads_need_a_key_that_is_a_thread_id() -> None:
    assert "@target" in latency_script(latency_request(_PAIR, _event), follows=True)
    with pytest.raises(InsituError, match="thread's id"):
        latency_script(latency_request("kmem:kmalloc -> kmem:kmalloc, key ptr", _event), follows=True)


@given(text=st.lists(st.sampled_from([*_PAIR.split(" "), ",", "if", "->", "="]), max_size=14).map(" ".join))
def test_any_text_is_a_pair_or_an_error(text: str) -> None:
    with suppress(InsituError):
        latency_script(latency_request(text, _event))
