"""Entries and exits of traced functions joined to calls."""

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.call_spans import CallCost, CallRecords, Calls, join_calls

HANDLER = 9  # function 9 is entered by interrupts


class Made(NamedTuple):
    """A call that was made, as the walk over the calls saw it."""

    thread: int
    func: int
    depth: int
    start: int
    end: int
    own: int
    parent: int


MS = 1_000_000
# What a thread does next: return or call a function, after so many milliseconds.
STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(10, 20)), max_size=30)
THREADS = st.lists(STEPS, min_size=1, max_size=3)


def _run(threads: list[list[tuple[bool, int, int]]]) -> tuple[list[Made], list[tuple[int, ...]]]:
    """The calls, and their records (ts, thread, is exit, func, depth, duration), by one walk for each thread."""
    made: list[Made] = []
    records: list[tuple[int, ...]] = []
    for thread, steps in enumerate(threads):
        now, open_calls = thread, []
        for returns, func, step in [*steps, *[(True, 0, 10)] * len(steps)]:
            now += step * MS
            if open_calls:
                at = open_calls[-1]
                made[at] = made[at]._replace(own=made[at].own + step * MS)
            if not returns:
                records.append((now, thread, 0, func, len(open_calls), -1))
                open_calls.append(len(made))
                made.append(
                    Made(thread, func, len(open_calls) - 1, now, 0, 0, open_calls[-2] if open_calls[1:] else -1)
                )
            elif open_calls:
                at = open_calls.pop()
                made[at] = made[at]._replace(end=now)
                records.append((now, thread, 1, made[at].func, len(open_calls), now - made[at].start))
    return made, records


def _records(rows: list[tuple[int, ...]], *, durations: bool = True) -> CallRecords:
    ts_ns, thread, exits, func, depth, dur_ns = np.array(rows, np.int64).reshape(-1, 6).T
    small = [column.astype(np.int32) for column in (thread, thread % 2, func, depth)]
    dur_ns = dur_ns if durations else np.full_like(dur_ns, -1)
    return CallRecords(ts_ns, small[0], small[1], exits == 1, small[2], small[3], dur_ns)


def _joined(
    rows: list[tuple[int, ...]], *lost_ns: int, cost: CallCost | None = None, durations: bool = True
) -> Calls:
    handlers = np.arange(10) == HANDLER
    return join_calls(_records(rows, durations=durations), np.array(lost_ns, np.int64), handlers, cost)


@given(THREADS, st.booleans(), st.randoms(use_true_random=False))
def test_calls_have_the_callers_and_self_times_of_the_walk_that_made_them(threads, durations, random) -> None:
    made, records = _run(threads)
    cpus = [[row for row in records if row[1] % 2 == cpu] for cpu in (0, 1)]  # those of a CPU stay in order
    random.shuffle(cpus)
    found = _joined([row for cpu in cpus for row in sorted(cpu, key=lambda row: row[0])], durations=durations)
    assert found.dropped == 0
    for name in ("thread", "func", "depth", "parent"):
        assert getattr(found, name).tolist() == [getattr(each, name) for each in made]
    assert found.ts_ns.tolist() == [each.start for each in made]
    assert found.dur_ns.tolist() == [each.end - each.start for each in made]
    assert found.self_ns.tolist() == [each.own for each in made]
    roots = found.parent < 0
    assert found.self_ns.sum() == found.dur_ns[roots].sum()


@given(THREADS)
def test_exits_alone_make_the_same_tree(threads) -> None:
    """As with a threshold (tracing_thresh), where ftrace records no entries."""
    made, records = _run(threads)
    found = _joined([row for row in records if row[2]])
    assert found.parent.tolist() == [each.parent for each in made]
    assert found.self_ns.tolist() == [each.own for each in made]


@given(THREADS, st.lists(st.tuples(st.integers(0, 100), st.integers(1, 20)), min_size=1, max_size=3))
def test_lost_records_never_give_a_call_the_exit_or_the_callees_of_another(threads, gaps) -> None:
    made, records = _run(threads)
    kept, lost_ns = sorted(records, key=lambda row: row[0]), []
    for at, count in gaps:
        at %= len(kept) + 1
        following = kept[at + count : at + count + 1]
        lost_ns += [row[0] for row in following]
        kept[at : at + count] = []
    found = _joined(kept, *lost_ns)
    whole = {(each.thread, each.start, each.end): at for at, each in enumerate(made)}
    opened = {(each.thread, each.start, each.func): at for at, each in enumerate(made)}
    truth = []
    for ts_ns, dur_ns, thread, func in zip(
        *(getattr(found, name).tolist() for name in ("ts_ns", "dur_ns", "thread", "func")), strict=True
    ):
        truth.append(whole[thread, ts_ns, ts_ns + dur_ns] if dur_ns >= 0 else opened[thread, ts_ns, func])
    assert len(set(truth)) == len(truth)  # no call twice
    assert sum(row[2] for row in kept) == (found.dur_ns >= 0).sum()  # each exit is a call
    for at, parent in enumerate(found.parent.tolist()):
        callers = []
        up = made[truth[at]].parent
        while up >= 0:
            callers.append(up)
            up = made[up].parent
        assert parent < 0 or truth[parent] in callers


@given(THREADS, st.integers(0, 30 * MS), st.integers(0, 30 * MS))
def test_the_cost_of_tracing_is_taken_from_self_times_once_for_each_call(threads, inside, outside) -> None:
    made, records = _run(threads)
    found = _joined(records, cost=CallCost(inside, outside))
    callees = np.bincount([each.parent for each in made if each.parent >= 0], minlength=len(made))
    assert found.self_ns.tolist() == [
        max(each.own - inside - outside * int(count), 0) for each, count in zip(made, callees, strict=True)
    ]
    assert found.dur_ns.tolist() == [each.end - each.start for each in made]


def test_a_call_that_has_not_returned_is_open_and_holds_its_callees() -> None:
    found = _joined([(10, 1, 0, 0, 0, -1), (20, 1, 0, 1, 1, -1), (25, 1, 1, 1, 1, 5), (30, 1, 0, 2, 1, -1)])
    assert found.dur_ns.tolist() == [-1, 5, -1]
    assert found.self_ns.tolist() == [-1, 5, -1]
    assert found.parent.tolist() == [-1, 0, 0]


def test_a_thread_that_ended_within_a_call_leaves_none_of_it_to_the_next_with_its_number() -> None:
    found = _joined([(10, 1, 0, 0, 0, -1), (20, 1, 0, 1, 1, -1), (50, 1, 0, 2, 0, -1), (60, 1, 1, 2, 0, 10)])
    assert found.parent.tolist() == [-1, 0, -1]
    assert found.dur_ns.tolist() == [-1, -1, 10]


def test_what_an_interrupt_calls_is_told_apart_from_the_call_that_it_cut_into() -> None:
    rows = [(0, 1, 0, 1, 0, -1), (10, 1, 0, HANDLER, 1, -1), (12, 1, 0, 2, 2, -1), (20, 1, 1, 2, 2, 8)]
    rows += [(30, 1, 1, HANDLER, 1, 20), (35, 1, 0, 3, 1, -1), (38, 1, 1, 3, 1, 3), (40, 1, 1, 1, 0, 40)]
    found = _joined(rows)
    assert found.interrupt.tolist() == [False, True, True, False]
    assert found.self_ns.tolist() == [40 - 20 - 3, 20 - 8, 8, 3]


def test_an_interrupt_while_an_exit_is_recorded_has_cut_into_the_caller() -> None:
    """The duration has been taken by then, but the record of the exit comes after those of the interrupt."""
    rows = [(0, 1, 0, 1, 0, -1), (10, 1, 0, 2, 1, -1), (25, 1, 0, HANDLER, 2, -1), (26, 1, 0, 3, 3, -1)]
    rows += [(28, 1, 1, 3, 3, 2), (60, 1, 1, HANDLER, 2, 35), (65, 1, 1, 2, 1, 10), (100, 1, 1, 1, 0, 100)]
    found = _joined(rows)
    assert found.func.tolist() == [1, 2, HANDLER, 3]
    assert found.parent.tolist() == [-1, 0, 0, 2]
    assert found.depth.tolist() == [0, 1, 1, 2]
    assert found.self_ns.tolist() == [100 - 10 - 35, 10, 35 - 2, 2]


def test_forged_depths_and_durations_are_dropped_and_counted() -> None:
    rows = [(10, 1, 0, 1, -5, -1), (20, 1, 0, 1, 2**31 - 1, -1), (30, 1, 1, 1, 0, -7), (40, 1, 1, 1, 0, -1)]
    found = _joined(rows)
    assert len(found.ts_ns) == 0
    assert found.dropped == 4
    assert _joined([]).dropped == 0
