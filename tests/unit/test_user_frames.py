"""Entries and returns of user functions matched by stack pointers, against a walk that knows the calls."""

from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.convert.call_spans import Calls, join_calls
from insitu.convert.user_frames import ENDED, ENTRY, RETURN, Frames, UserRecords, user_frames

END_NS = 10**9
Row = tuple[int, int, int, int, int, bool]  # time, thread, kind, function, stack pointer, tail


def _records(rows: list[Row]) -> UserRecords:
    ts_ns, thread, kind, func, sp, tail = zip(*rows, strict=True) if rows else [()] * 6
    return UserRecords(
        np.array(ts_ns, np.int64),
        np.array(thread, np.int32),
        np.zeros(len(rows), np.int32),
        np.array(kind, np.int8),
        np.array(func, np.int32),
        np.array(sp, np.int64),
        np.array(tail, np.bool_),
    )


def _calls(rows: list[Row]) -> tuple[Frames, Calls]:
    frames = user_frames(_records(rows), END_NS)
    return frames, join_calls(frames.records, np.zeros(0, np.int64), np.zeros(1000, np.bool_))


def _found(rows: list[Row]) -> list[tuple[int, int, int, int, int]]:
    """Function, start, duration, depth and the function of the caller (-1: none), in order of time."""
    _, calls = _calls(rows)
    columns = (each.tolist() for each in (calls.func, calls.ts_ns, calls.dur_ns, calls.depth))
    parent = [int(calls.func[at]) if at >= 0 else -1 for at in calls.parent.tolist()]
    return sorted(zip(*columns, parent, strict=True), key=lambda each: each[1])


def test_calls_that_return_nest_as_they_were_made() -> None:
    rows = [
        (10, 1, ENTRY, 1, 1000, False),
        (20, 1, ENTRY, 2, 900, False),
        (30, 1, RETURN, 0, 900, False),
        (40, 1, ENTRY, 3, 900, False),
        (60, 1, RETURN, 0, 900, False),
        (100, 1, RETURN, 0, 1000, False),
    ]
    assert _found(rows) == [(1, 10, 90, 0, -1), (2, 20, 10, 1, 1), (3, 40, 20, 1, 1)]


def test_calls_that_an_exception_ended_end_with_the_next_record_of_their_thread() -> None:
    rows = [
        (10, 1, ENTRY, 1, 1000, False),
        (20, 1, ENTRY, 2, 900, False),
        (30, 1, ENTRY, 3, 800, False),  # 2 and 3 do not return: 1 catches
        (50, 1, ENTRY, 4, 900, False),
        (60, 1, RETURN, 0, 900, False),
        (100, 1, RETURN, 0, 1000, False),
    ]
    assert _found(rows) == [(1, 10, 90, 0, -1), (2, 20, 30, 1, 1), (3, 30, 20, 2, 2), (4, 50, 10, 1, 1)]


def test_a_tail_call_is_made_by_the_function_that_it_replaces() -> None:
    rows = [
        (10, 1, ENTRY, 1, 1000, False),
        (20, 1, ENTRY, 2, 900, False),
        (30, 1, ENTRY, 3, 900, True),
        (50, 1, RETURN, 0, 900, False),
        (51, 1, RETURN, 0, 900, False),
        (100, 1, RETURN, 0, 1000, False),
    ]
    assert _found(rows) == [(1, 10, 90, 0, -1), (2, 20, 31, 1, 1), (3, 30, 20, 2, 2)]


def test_calls_of_a_coroutine_on_a_stack_of_its_own_leave_those_of_the_first_stack_open() -> None:
    rows = [
        (10, 1, ENTRY, 1, 1 << 40, False),
        (20, 1, ENTRY, 2, 1 << 30, False),  # another stack
        (30, 1, RETURN, 0, 1 << 40, False),
        (40, 1, RETURN, 0, 1 << 30, False),
    ]
    found = {(func, start, dur) for func, start, dur, *_ in _found(rows)}
    assert found == {(1, 10, 20), (2, 20, 20)}


def test_what_is_open_ends_with_its_thread_or_with_the_recording() -> None:
    rows = [
        (10, 1, ENTRY, 1, 1000, False),
        (20, 1, ENTRY, 2, 900, False),
        (50, 1, ENDED, 0, 0, False),
        (60, 1, ENTRY, 3, 1000, False),  # another thread of that number, or another program
        (70, 2, ENTRY, 4, 1000, False),
    ]
    assert _found(rows) == [
        (1, 10, 40, 0, -1),
        (2, 20, 30, 1, 1),
        (3, 60, END_NS - 60, 0, -1),
        (4, 70, END_NS - 70, 0, -1),
    ]


def test_returns_without_an_entry_are_counted_and_change_nothing() -> None:
    rows = [
        (5, 1, RETURN, 0, 1100, False),
        (10, 1, ENTRY, 1, 1000, False),
        (20, 1, RETURN, 0, 1000, False),
        (30, 1, RETURN, 0, 1050, False),
    ]
    frames, _ = _calls(rows)
    assert frames.unmatched == 2
    assert _found(rows) == [(1, 10, 10, 0, -1)]


class Made(NamedTuple):
    """What a test does next: call a function, return from it, or drop so many frames at once."""

    calls: bool
    drops: int


STEPS = st.lists(st.builds(Made, st.booleans(), st.integers(1, 3)), max_size=60)


@settings(max_examples=200)
@given(st.lists(STEPS, min_size=1, max_size=3), st.booleans())
def test_any_calls_returns_and_longjmps_are_found_as_they_were_made(threads: list[list[Made]], jumps: bool) -> None:
    rows: list[Row] = []
    wanted: list[tuple[int, int, int, int, int]] = []
    for thread, steps in enumerate(threads):
        now, open_, dropped = 1000 * thread, [], []
        for number, step in enumerate(steps):
            now += 10
            if step.calls:
                ended, dropped = dropped, []
                wanted += [(func, start, now - start, depth, parent) for func, start, depth, parent in ended]
                parent = open_[-1][0] if open_ else -1
                # Each call has a place of its own, so that a dropped frame is always below the next one's.
                sp = 100_000 - 100 * len(open_) + (10 if ended else 0)
                sp = min(sp, open_[-1][4] - 1) if open_ else sp
                rows.append((now, thread, ENTRY, number, sp, False))
                open_.append((number, now, len(open_), parent, sp))
            elif jumps and step.drops > 1 and len(open_) > step.drops:
                dropped += [each[:4] for each in open_[-step.drops + 1 :]]
                del open_[-step.drops + 1 :]
            elif open_:
                wanted += [(func, start, now - start, depth, parent) for func, start, depth, parent in dropped]
                dropped = []
                func, start, depth, parent, sp = open_.pop()
                rows.append((now, thread, RETURN, 0, sp, False))
                wanted.append((func, start, now - start, depth, parent))
        wanted += [(f, start, END_NS - start, d, p) for f, start, d, p, *_ in [*dropped, *open_]]
    assert sorted(_found(rows)) == sorted(wanted)
