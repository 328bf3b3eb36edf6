"""Pages of the function_graph tracer of two kernels: the calls are those of the kernel's text of the same buffer."""

import json

import numpy as np
import pytest

from insitu.convert import call_spans
from insitu.convert.call_spans import CallCost, CallJoiner, Calls, join_calls
from insitu.convert.trace_calls import GraphDecoder
from insitu.convert.trace_pages import TraceRecords, decode_pages, page_layout
from insitu.kernel.tracefs import parse_format
from insitu.symbols.frame import Frame

from .function_graph_data import DATA, EVENTS, PAGE, calls_of_text


def decoded(kernel: str) -> tuple[TraceRecords, GraphDecoder]:
    directory = DATA / kernel
    pages = [(cpu, (directory / f"cpu{cpu}.pages").read_bytes()) for cpu in (0, 1)]
    memory = np.frombuffer(b"".join(data for _, data in pages), np.uint8)
    cpus = np.concatenate([np.full(len(data) // PAGE, cpu, np.int32) for cpu, data in pages])
    shapes = [parse_format((directory / f"{name}.format").read_text(), f"ftrace:{name}") for name in EVENTS]
    names = {address: name for name, address in json.loads((directory / "functions.json").read_text()).items()}
    # The function that is recorded is its start, or the instruction after endbr64 there.
    decoder = GraphDecoder(
        {shape.id: shape for shape in shapes},
        lambda found: [Frame(names.get(each) or names[each - 4]) for each in found.tolist()],
    )
    return decode_pages(memory, cpus, page_layout((directory / "header_page").read_text(), PAGE)), decoder


def rows_of(calls: Calls, decoder: GraphDecoder) -> list[tuple[int, str, str, int]]:
    """Thread, function, its caller and its duration of each call."""
    names = [frame.function for frame in decoder.functions]
    columns = (calls.thread.tolist(), calls.func.tolist(), calls.parent.tolist(), calls.dur_ns.tolist())
    func = columns[1]
    return [
        (pid, names[own], names[func[parent]] if parent >= 0 else "", took)
        for pid, own, parent, took in zip(*columns, strict=True)
    ]


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_calls_are_those_of_the_kernels_own_text(kernel) -> None:
    records, decoder = decoded(kernel)
    found, lost_ns = decoder.decode(records)
    calls = join_calls(found, lost_ns, decoder.handlers)
    text = calls_of_text(kernel)
    expected = [
        (call.pid, call.function, text[call.parent].function if call.parent >= 0 else "", call.dur_ns)
        for call in text
    ]
    assert len(expected) > 80
    assert rows_of(calls, decoder) == sorted(expected, key=lambda row: row[0])
    assert calls.dropped == 0
    assert calls.self_ns.sum() == calls.dur_ns[calls.parent < 0].sum()


def test_interrupts_that_cut_into_a_call_are_told_apart_from_it() -> None:
    """mutex_unlock took 1025.573 us in 6.1, in which a timer's interrupt ran for 56.605 + 110.901 + 102.020 us."""
    records, decoder = decoded("6.1")
    found, lost_ns = decoder.decode(records)
    calls = join_calls(found, lost_ns, decoder.handlers)
    names = [frame.function for frame in decoder.functions]
    first = int(np.flatnonzero(calls.func == names.index("mutex_unlock"))[0])
    inner = np.flatnonzero(calls.parent == first)
    assert [names[func] for func in calls.func[inner]] == [
        "irq_enter_rcu",
        "__sysvec_apic_timer_interrupt",
        "irq_exit_rcu",
    ]
    assert calls.interrupt[inner].all()
    assert calls.interrupt[calls.func == names.index("hrtimer_interrupt")].all()  # which the handler has called
    assert not calls.interrupt[first]
    assert calls.self_ns[first] == pytest.approx((1025.573 - 56.605 - 110.901 - 102.020) * 1000, abs=2)


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_windows_of_records_give_the_same_calls(kernel) -> None:
    records, decoder = decoded(kernel)
    found, lost_ns = decoder.decode(records)
    whole = join_calls(found, lost_ns, decoder.handlers)
    joiner, parts = CallJoiner(CallCost()), []
    for until_ns in np.quantile(found.ts_ns, [0.2, 0.4, 0.6, 0.8, 1]).astype(np.int64).tolist():
        early = found.ts_ns <= until_ns
        parts.append(
            joiner.add(type(found)(*(column[early] for column in found)), lost_ns, until_ns, decoder.handlers)
        )
        found = type(found)(*(column[~early] for column in found))
    parts.append(joiner.finish(decoder.handlers))
    rows = sorted(row for part in parts for row in rows_of(part, decoder))
    assert rows == sorted(rows_of(whole, decoder))


def test_a_call_that_never_returns_is_not_looked_at_again_with_every_window(monkeypatch) -> None:
    windows, calls = 200, 50
    rows = np.arange(2 * calls)
    looked_at = []
    by_thread = call_spans._by_thread
    monkeypatch.setattr(
        call_spans, "_by_thread", lambda records: looked_at.append(len(records.ts_ns)) or by_thread(records)
    )
    joiner, none, handlers = CallJoiner(CallCost()), np.zeros(0, np.int64), np.zeros(2, np.bool_)
    outer = call_spans.CallRecords(
        np.array([1]),
        np.array([7], np.int32),
        *np.zeros((1, 1), np.int32),
        np.array([False]),
        np.array([1], np.int32),
        np.array([0], np.int32),
        np.array([-1]),
    )
    joined = len(joiner.add(outer, none, 9, handlers).ts_ns)
    for window in range(windows):
        exits = rows % 2 == 1
        inner = call_spans.CallRecords(
            10 + 1000 * window + rows,
            np.full(len(rows), 7, np.int32),
            np.zeros(len(rows), np.int32),
            exits,
            np.zeros(len(rows), np.int32),
            np.ones(len(rows), np.int32),
            np.where(exits, 1, -1),
        )
        joined += len(joiner.add(inner, none, 1000 * (window + 1), handlers).ts_ns)
    last = joiner.finish(handlers)
    records = 1 + windows * len(rows)
    assert sum(looked_at) == 2 * records  # with its window, and at the end
    assert joined == 0
    assert len(last.ts_ns) == 1 + windows * calls
    assert (last.parent[1:] == 0).all()
    assert last.dur_ns[0] == -1
