"""Thread states, against a walk over the events one by one."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.convert.thread_states import (
    STATES,
    StateJoiner,
    Switches,
    ThreadStates,
    Wakings,
    thread_states,
    write_thread_states,
)
from insitu.session.reader import Session
from insitu.session.writer import SessionWriter

from .sessions import empty_session

Row = tuple[int, int, int, int, str, int, int]  # ts, dur, tid, cpu, state, waker, time of waking

PREV_STATES = {0: "preempted", 0x100: "preempted", 0x101: "preempted", 1: "sleeping", 2: "uninterruptible"}
PREV_STATES |= {4: "stopped", 8: "traced", 0x10: "exited", 0x20: "exited", 0x40: "parked", 0x80: "idle"}


def columns(switches: list[tuple[int, ...]], wakings: list[tuple[int, ...]]) -> tuple[Switches, Wakings]:
    left = np.array(switches, np.int64).reshape(-1, 5)
    woken = np.array(wakings, np.int64).reshape(-1, 3)
    ts, cpu, prev, state, following = left.T
    return (
        Switches(ts, cpu.astype(np.int32), prev.astype(np.int32), state, following.astype(np.int32)),
        Wakings(woken[:, 0], woken[:, 1].astype(np.int32), woken[:, 2].astype(np.int32)),
    )


def rows(found: ThreadStates) -> list[Row]:
    values = zip(*(column.tolist() for column in found[:7]), strict=True)
    return [(ts, dur, tid, cpu, STATES[state], *waker) for ts, dur, tid, cpu, state, *waker in values]


def walked(switches: list[tuple[int, ...]], wakings: list[tuple[int, ...]]) -> list[Row]:
    """The states that one gets by following each thread from event to event."""
    events = [(ts, 0, tid, "wake", waker, 0) for ts, tid, waker in wakings]
    for ts, cpu, prev, state, following in switches:
        events += [(ts, 1, prev, "out", cpu, state), (ts, 1, following, "in", cpu, 0)]
    events.sort(key=lambda event: event[:2])
    found: list[Row] = []

    def ends(tid: int, current: Any, ts: int, contradicts: bool) -> None:
        if current is None:
            return
        at, cpu, state, waker, woken = current
        if state == "exited":
            found.append((at, -1, tid, -1, state, waker, woken))
        else:
            end = (-1, "unknown") if contradicts else (cpu, state)
            found.append((at, ts - at, tid, *end, waker, woken))

    begin = min((event[0] for event in events if event[2]), default=0)
    for tid in {event[2] for event in events} - {0}:
        mine = [event for event in events if event[2] == tid]
        current: list[Any] | None = None  # ts, cpu, state, waker, time of waking
        pending: tuple[int, int] | None = None  # a waking of a thread that still runs

        for at, (ts, _, _, what, where, state) in enumerate(mine):
            if what == "wake":
                if current is None or (current[2] not in ("running", "runnable", "preempted") and current[4] == 0):
                    ends(tid, current, ts, False)
                    current = [ts, -1, "runnable", where, ts]
                else:
                    pending = (where, ts)
                continue
            if what == "in":
                ends(tid, current, ts, current is not None and current[2] == "running")
                current = [ts, where, "running", 0, 0]
            else:
                if current is None and ts > begin:
                    found.append((begin, ts - begin, tid, where, "running", 0, 0))
                ends(tid, current, ts, current is not None and not (current[2] == "running" and current[1] == where))
                name = PREV_STATES[state]
                current = [ts, -1, name, 0, 0]
                follows = mine[at + 1][3] if at + 1 < len(mine) else ""
                if pending and mine[at - 1][3] == "wake" and follows == "in" and name != "preempted":
                    current = [ts, -1, "runnable", *pending]
            pending = None
        if current:
            at, cpu, state, waker, woken = current
            found.append((at, -1, tid, cpu, state, waker, woken))
    return sorted(found)


def test_a_thread_sleeps_until_it_is_woken_and_waits_until_it_gets_a_cpu() -> None:
    switches = [(100, 0, 7, 1, 8), (250, 0, 8, 0, 7), (300, 0, 7, 0x20, 8)]
    assert rows(thread_states(*columns(switches, [(180, 7, 8), (200, 7, 9)]), start_ns=10)) == [
        (10, 90, 7, 0, "running", 0, 0),
        (100, 80, 7, -1, "sleeping", 0, 0),
        (100, 150, 8, 0, "running", 0, 0),
        (180, 70, 7, -1, "runnable", 8, 180),
        (250, 50, 8, -1, "preempted", 0, 0),
        (250, 50, 7, 0, "running", 0, 0),
        (300, -1, 7, -1, "exited", 0, 0),
        (300, -1, 8, 0, "running", 0, 0),
    ]


def test_a_thread_woken_on_its_way_to_sleep_is_runnable_at_once() -> None:
    switches = [(100, 0, 5, 0, 7), (200, 0, 7, 1, 5), (230, 0, 5, 1, 7)]
    assert (200, 30, 7, -1, "runnable", 9, 190) in rows(thread_states(*columns(switches, [(190, 7, 9)])))


def test_between_events_that_contradict_each_other_the_state_is_unknown() -> None:
    switches = [(100, 0, 5, 1, 7), (200, 1, 7, 1, 5), (400, 0, 7, 1, 5)]
    found = [row[:5] for row in rows(thread_states(*columns(switches, []))) if row[2] == 7]
    assert found == [(100, 100, 7, -1, "unknown"), (200, 200, 7, -1, "unknown"), (400, -1, 7, -1, "sleeping")]


def test_no_events_have_no_states() -> None:
    assert rows(thread_states(*columns([], []))) == []
    assert rows(thread_states(*columns([], [(5, 7, 8)]))) == [(5, -1, 7, -1, "runnable", 8, 5)]


_tids = st.integers(0, 4)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1), _tids, st.sampled_from([*PREV_STATES]), _tids)),
    st.lists(st.tuples(st.integers(0, 40), _tids, _tids)),
)
def test_states_of_any_events_equal_those_of_a_walk(
    switches: list[tuple[int, ...]], wakings: list[tuple[int, ...]]
) -> None:
    """Events may contradict each other: also then both agree on what is unknown."""
    switches = [
        (ts, cpu, prev, state, following) for ts, cpu, prev, state, following in switches if prev != following
    ]
    assert sorted(rows(thread_states(*columns(switches, wakings)))) == walked(switches, wakings)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1), _tids, st.sampled_from([*PREV_STATES]), _tids)),
    st.lists(st.tuples(st.integers(0, 40), _tids, _tids)),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_states_joined_window_by_window_equal_those_of_a_walk(
    switches: list[tuple[int, ...]], wakings: list[tuple[int, ...]], ends: list[int]
) -> None:
    switches = [
        (ts, cpu, prev, state, following) for ts, cpu, prev, state, following in switches if prev != following
    ]
    joiner, found = StateJoiner(), []
    begin = 0
    for end in [*sorted(ends), 41]:
        parts = ([each for each in events if begin <= each[0] < end] for events in (switches, wakings))
        found += rows(joiner.add(*columns(*parts)))
        begin = end
    assert sorted(found + rows(joiner.finish())) == walked(switches, wakings)


def test_what_is_held_between_windows_does_not_grow_with_the_wakings_of_a_thread_that_runs() -> None:
    joiner = StateJoiner()
    joiner.add(*columns([(1, 0, 5, 1, 7)], []))
    for window in range(2, 50):
        joiner.add(*columns([], [(1000 * window + at, 7, 8) for at in range(500)]))
    assert joiner.held <= 4 * 2
    assert (1, 99000, 7, 0, "running", 0, 0) in rows(joiner.finish(*columns([(99001, 0, 7, 2, 5)], [])))


def test_states_are_written_with_the_threads_of_the_session(tmp_path: Path) -> None:
    path = empty_session(tmp_path / "run.insitu")
    with SessionWriter.on_disk(path) as writer:
        process = writer.processes.process(7)
        one, other = writer.processes.thread(7, process), writer.processes.thread(9, process)
        switches = [(100, 0, 7, 1, 0), (250, 1, 0, 0, 7)]
        write_thread_states(writer, thread_states(*columns(switches, [(180, 7, 9)])))
        writer.finish()
    with Session(path) as session:
        found = session.sql("select ts_ns, dur_ns, utid, cpu, state, waker, waker_ts_ns from thread_state").rows()
    assert found == [
        (100, 80, one, -1, "sleeping", None, None),
        (180, 70, one, -1, "runnable", other, 180),
        (250, None, one, 1, "running", None, None),
    ]


def test_ids_of_threads_from_a_damaged_file_take_no_more_memory_than_others() -> None:
    largest, smallest = 2**31 - 1, -(2**31)
    found = rows(thread_states(*columns([(5, 0, smallest, 1, largest), (9, 0, largest, 1, smallest)], [])))
    assert [row for row in found if row[2] == largest and row[4] == "running"] == [
        (5, 4, largest, 0, "running", 0, 0)
    ]
