"""Events' bytes against what packed them: sizes, order, text of any length, torn tails, damaged layouts."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.convert.sources import LAYOUT, finish
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.bpf import BpfError
from insitu.kernel.ring_buffer import BUSY, DISCARDED
from insitu.probe.aggregations import Count, Histogram, Statistics
from insitu.probe.layout import EVENT_HEAD, HASH, STACK_TRACE, Layout, MapLayout, RecordLayout
from insitu.probe.runtime.capture import EVENTS
from insitu.probe.runtime.event_columns import CopiedStackColumn, StackColumn
from insitu.probe.runtime.event_decode import EventDecoder, decode_events
from insitu.probe.runtime.event_layout import recording_layout
from insitu.probe.runtime.loader import _refused
from insitu.probe.runtime.map_records import decode_maps
from insitu.probe.runtime.record_log import RecordLog
from insitu.probe.runtime.record_walk import record_offsets, whole_bytes
from insitu.probe.runtime.stack_records import StackContents, framed
from insitu.probe.runtime.type_json import type_from_json, type_to_json
from insitu.probe.source import Source
from insitu.probe.types import INT64, UINT64, Buffer, NamedNumber, Stack, String, Tuple, Type, Variable
from insitu.session.directory import create
from insitu.session.manifest import Manifest

from .probe_scripts import compiled

_TEXT = Variable(String(64))
_KINDS: list[tuple[str, dict[str, Type]]] = [
    ("numbers", {"a": INT64, "b": UINT64}),
    ("text", {"s": _TEXT, "n": INT64, "t": _TEXT, "b": Variable(Buffer(20))}),
    ("stacks", {"k": Variable(Stack(False)), "u": Variable(Stack(True))}),
    ("numbers", {"a": UINT64, "b": UINT64}),
]


def _layout(kinds: list[tuple[str, dict[str, Type]]] = _KINDS, maps: list[MapLayout] | None = None) -> dict[str, Any]:
    """The layout of events, as a recording has it on disk."""
    records = [
        RecordLayout("emit", label, Tuple((UINT64, UINT64, *fields.values())), names=(*EVENT_HEAD, *fields))
        for label, fields in kinds
    ]
    made = recording_layout(Layout(records=records, maps=maps or []), points={7: ("kprobe:f", "f")})
    loaded: dict[str, Any] = json.loads(json.dumps(made))
    return loaded


def _event(kind: int, *values: int | bytes, ts_ns: int = 5, cpu: int = 1, flag: int = 0) -> bytes:
    """A record as a program writes it: numbers in place, of bytes their length, and the bytes behind all fields."""
    fixed = struct.pack("<IIQII", kind, cpu, ts_ns, 31, 30)
    parts = b""
    for value in values:
        if isinstance(value, int):
            fixed += struct.pack("<Q", value % (1 << 64))
        else:
            fixed += struct.pack("<Q", len(value))
            parts += value + b"\x5a" * (-len(value) % 8)  # padding is whatever was there before
    data = fixed + parts
    return struct.pack("<II", len(data) | flag, 9) + data


def _addresses(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


_NUMBERS = st.tuples(st.just(0), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))
_WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=15)
_TEXTS = st.tuples(st.just(1), _WORDS, st.integers(-9, 9), _WORDS, st.binary(max_size=20))
_CHAIN = st.lists(st.integers(1, 2**64 - 1), max_size=5)
_STACKS = st.tuples(st.just(2), _CHAIN, _CHAIN)


@given(st.lists(st.tuples(st.one_of(_NUMBERS, _TEXTS, _STACKS), st.sampled_from([0, 0, 0, DISCARDED]))))
@settings(deadline=None, max_examples=150)
def test_events_come_out_as_they_were_packed(events: list[tuple[tuple[Any, ...], int]]) -> None:
    data = b""
    for (kind, *values), flag in events:
        raw = [
            value.encode() if isinstance(value, str) else _addresses(*value) if isinstance(value, list) else value
            for value in values
        ]
        data += _event(kind, *raw, flag=flag)
    found = decode_events(data, _layout())
    assert (found.taken, found.malformed) == (len(data), 0)
    kept = [values for values, flag in events if not flag]
    for label, columns in found.tables.items():
        assert set(polars.Series(columns["pid"])) == {30} and set(polars.Series(columns["tid"])) == {31}
        assert label in {_KINDS[kind][0] for kind, *_ in kept}
    tables = found.tables
    rows = [tuple(values[1:]) for values in kept if values[0] == 0]
    if rows:
        assert list(zip(tables["numbers"]["a"], tables["numbers"]["b"], strict=True)) == rows
    rows = [tuple(values[1:]) for values in kept if values[0] == 1]
    if rows:
        assert polars.DataFrame(tables["text"]).select("s", "n", "t", "b").rows() == rows
    rows = [tuple(values[1:]) for values in kept if values[0] == 2]
    for index, name in enumerate(("k", "u")):
        if rows:
            column = tables["stacks"][name]
            assert isinstance(column, StackColumn)
            assert column.pid.tolist() == [30 * index] * len(rows)
            chains = [column.address[a:b].tolist() for a, b in zip(column.offset, column.offset[1:], strict=False)]
            assert chains == [row[index] for row in rows]


def test_kinds_of_one_label_stay_in_the_order_of_the_ring() -> None:
    data = b"".join(_event(3 * (n % 3 == 1), n, -n, ts_ns=n) for n in range(100))
    columns = decode_events(data, _layout()).tables["numbers"]
    assert np.asarray(columns["a"]).tolist() == list(range(100))
    assert np.asarray(columns["ts_ns"]).tolist() == list(range(100))
    assert np.asarray(columns["a"]).dtype == np.int64


@given(
    st.lists(st.sampled_from([_event(0, 1, 2), _event(1, b"x" * 9, 1, b"", b"")]), max_size=700), st.integers(1, 90)
)
@settings(deadline=None, max_examples=40)
def test_a_torn_tail_record_is_dropped_and_its_bytes_are_counted(events: list[bytes], cut: int) -> None:
    whole = b"".join(events)
    torn = _event(1, b"torn", 1, b"off", b"here")[:cut]
    found = decode_events(whole + torn[: len(torn) - 1], _layout())
    assert sum(len(table["ts_ns"]) for table in found.tables.values()) == len(events)  # type: ignore[arg-type]
    assert found.taken == len(whole)


def test_an_event_longer_than_a_window_ends_the_reading_and_the_note_says_where(tmp_path: Path) -> None:
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs, command=["x"]), procfs)
    source = path / "raw" / "script"
    source.mkdir()
    (source / LAYOUT).write_text(json.dumps({"kind": "probe", **_layout()}))
    whole = _event(0, 1, 2) * 3
    with (source / EVENTS).open("wb") as file:
        file.write(whole + struct.pack("<II", 72 << 20, 0))
        file.truncate(80 << 20)
    left = (80 << 20) - len(whole)
    note = f"script/{EVENTS}: incomplete record at byte {len(whole)} dropped, and all after it ({left} bytes)"
    assert note in finish(path).notes


def test_records_after_one_that_is_being_written_are_left_for_later() -> None:
    done = _event(0, 1, 2)
    assert whole_bytes(done * 40 + _event(0, 1, 2, flag=BUSY) + done) == 40 * len(done)
    assert whole_bytes(_event(0, 1, 2, flag=BUSY)) == 0


@given(st.lists(st.integers(0, 60), max_size=2000), st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_every_record_is_found_in_long_and_short_runs_of_lengths(lengths: list[int], repeat: int) -> None:
    expected, data = [], bytearray()
    for length in [each for each in lengths for _ in range(1 + (each % 3 == 0) * repeat)]:
        expected.append(len(data))
        data += struct.pack("<II", length, 3) + b"\xff" * (-(-length // 8) * 8)
    offsets, end = record_offsets(bytes(data))
    assert offsets.tolist() == expected and end == len(data)


def test_records_of_a_length_or_kind_that_the_layout_lacks_are_dropped_and_counted() -> None:
    short = struct.pack("<II", 16, 0) + bytes(16)
    odd = struct.pack("<II", 64, 0) + _event(0, 1, 2)[8:] + bytes(24)
    lying = bytearray(_event(1, b"abc", 5, b"", b""))
    lying[32:40] = struct.pack("<Q", 1 << 63)
    data = short + odd + bytes(lying) + _event(99) + _event(0, 1, 2)
    found = decode_events(data, _layout())
    assert found.malformed == 4 and found.taken == len(data)
    assert np.asarray(found.tables["numbers"]["a"]).tolist() == [1]


@given(st.binary(max_size=400), st.integers(0, 5))
@settings(deadline=None, max_examples=300)
def test_any_bytes_decode_without_an_exception(noise: bytes, at: int) -> None:
    data = bytearray(_event(1, b"name", 3, b"other", b"xy") * 3 + _event(2, _addresses(1, 2), b"") * 2)
    data[at * 40 : at * 40 + len(noise)] = noise
    found = decode_events(bytes(data), _layout())
    for table in found.tables.values():
        assert len({len(column) for column in table.values()}) == 1


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_layout_is_refused_in_one_line_or_read(data: st.DataObject) -> None:
    layout = _layout()
    events = _event(0, 1, 2) + _event(1, b"a", 2, b"b", b"c") + _event(2, b"", _addresses(1))
    node: Any = layout
    while True:
        key = data.draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(st.sampled_from([None, -1, 1 << 70, "x", [], {}, {"type": "Integer"}, 3.5]))
        break
    try:
        decode_events(events, layout)
    except InsituError as error:
        assert "\n" not in str(error)


_ANY_TYPE = st.recursive(
    st.sampled_from([INT64, String(5), Buffer(9), NamedNumber("ksym"), Stack(True, 5, "perf"), Variable(String(99))]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda elements: Tuple(tuple(elements))),
)


@given(_ANY_TYPE)
def test_a_type_comes_back_from_json_as_it_was(kind: Type) -> None:
    assert type_from_json(json.loads(json.dumps(type_to_json(kind)))) == kind


def test_names_of_probes_are_in_the_layout() -> None:
    layout = _layout([("x", {"p": NamedNumber("probe"), "f": NamedNumber("func")})])
    table = polars.DataFrame(decode_events(_event(0, 7, 7) * 2, layout).tables["x"])
    assert table.select("p", "f").rows() == [("kprobe:f", "f")] * 2


def test_a_copied_stack_keeps_its_registers_and_bytes() -> None:
    layout = _layout([("x", {"u": Variable(Stack(True, 512, "dwarf"))})])
    count = layout["registers"]["count"]
    registers, copy = _addresses(*range(1, count + 1)), bytes(range(200))
    found = decode_events(_event(0, registers + copy) + _event(0, b"") + _event(0, registers), layout)
    column = found.tables["x"]["u"]
    assert isinstance(column, CopiedStackColumn)
    assert column.registers.tolist() == [list(range(1, count + 1)), [0] * count, list(range(1, count + 1))]
    assert column.size.tolist() == [200, 0, 0]
    assert column.stack[column.start[0] : column.start[0] + 200].tobytes() == copy


def test_stacks_that_fields_and_keys_mean_by_id_are_found_in_the_stacks_beside() -> None:
    kind = Stack(False, 20)
    key = Tuple((kind, INT64))
    maps = [
        MapLayout("kstack20", STACK_TRACE, 4, 160, 16),
        MapLayout("@held", HASH, key.size, 8, 16, key, INT64),
        MapLayout("@by", 5, key.size, 8, 16, key, Count()),
    ]
    layout = _layout([("x", {"s": kind})], maps)
    layout["cpus"] = 2
    beside = StackContents.of(
        [framed(struct.pack("<II", 0, 7) + _addresses(10, 11)), framed(struct.pack("<II", 0, 3) + _addresses(20))],
        layout["stack_maps"],
    )
    data = b"".join(_event(0, number, 0) for number in (7, 3, -17, 7, 5))
    column = decode_events(data, layout, stacks=beside).tables["x"]["s"]
    assert isinstance(column, StackColumn)
    assert column.offset.tolist() == [0, 2, 3, 3, 5, 5] and column.address.tolist() == [10, 11, 20, 10, 11]
    records = framed(struct.pack("<IIqqqq", 1, 0, 3, 0, 5, 99)) + framed(
        struct.pack("<IIqqqqq", 2, 0, 7, 0, 6, 40, 2)
    )
    tables = decode_maps(records, layout, stacks=beside)
    held = tables["@held"]
    assert isinstance(held["key0"], StackColumn) and held["key0"].address.tolist() == [20]
    assert polars.DataFrame({"k": held["key1"], "v": held["value"]}).rows() == [(5, 99)]
    assert isinstance(tables["@by"]["key0"], StackColumn) and tables["@by"]["key0"].address.tolist() == [10, 11]
    assert polars.Series(tables["@by"]["value"]).to_list() == [42]  # what two CPUs counted


def test_columns_of_maps_have_their_types_whatever_they_hold() -> None:
    key = Tuple((INT64, UINT64, String(16)))
    maps = [
        MapLayout("@plain", HASH, key.size, 8, 16, key, UINT64),
        MapLayout("@hist", 5, 8, Histogram(0).size, 16, Tuple((INT64,)), Histogram(0)),
        MapLayout("@stats", 5, 8, 16, 16, Tuple((INT64,)), Statistics(False)),
    ]
    layout = _layout(maps=maps)
    layout["cpus"] = 1
    cells = [0] * Histogram(0).cells
    cells[64] = 3  # numbers of 2**62 and more, whose range ends at 2**63
    rows = [
        struct.pack("<IIqQ16sQ", 0, 0, -1, 2**64 - 1, b"name", 2**63),
        struct.pack(f"<IIq{len(cells)}Q", 1, 0, 7, *cells),
        struct.pack("<IIqQQ", 2, 0, 1, 2, 9),
    ]
    empty, full = (decode_maps(data, layout) for data in (b"", b"".join(map(framed, rows))))
    for name in ("@plain", "@hist", "@stats"):
        assert polars.DataFrame(empty[name]).schema == polars.DataFrame(full[name]).schema
    assert polars.DataFrame(full["@plain"]).rows() == [(-1, 2**64 - 1, "name", 2**63)]
    assert polars.DataFrame(full["@hist"]).rows() == [(7, 2**62, None, 3)]
    assert polars.DataFrame(full["@stats"]).rows() == [(1, 4.5, 2, 9)]


def test_a_log_that_cannot_grow_keeps_whole_records_only(tmp_path: Path) -> None:
    import resource

    record = _event(0, 1, 2)
    path = tmp_path / "events.records"
    with path.open("wb", buffering=0) as file:
        log = RecordLog(file.fileno())
        log.append(record)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal

        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(record) + 20, limits[1]))
        try:
            with pytest.raises(OSError):
                log.append(record * 5)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        log.append(record)
    assert path.read_bytes() == record * 2 and log.bytes_written == 2 * len(record)


def test_three_hundred_labels_share_a_ring() -> None:
    body = " ".join(f'emit("l{n}", (value={n}, text=str({n})));' for n in range(300))
    layout = compiled(f"BEGIN {{ {body} }}").layout
    assert [each.name for each in layout.maps if each.type == 27] == ["events"]
    assert layout.labels == [f"l{n}" for n in range(300)]
    assert next(each for each in layout.maps if each.name == "lost events").max_entries == 300


def test_events_that_look_alike_are_of_one_kind() -> None:
    layout = compiled('BEGIN { emit("x", (a=1)); emit("x", (a=2)); emit("x", (a=pid)); }').layout
    assert len([each for each in layout.records if each.kind == "emit"]) == 2  # of 64 and of 32 bits


@pytest.mark.parametrize(
    "line",
    ["invalid func unknown#175", "unknown func bpf_task_pt_regs#175", "cannot use helper bpf_task_pt_regs#175"],
)
def test_a_kernel_without_the_helper_is_said_with_what_does_without(line: str) -> None:
    """The lines are those of kernel/bpf/verifier.c before and after Linux 5.15."""
    text = 'BEGIN { emit("x", (u=ustack(dwarf))); }'
    error = BpfError("refused", 22, log=f"0: (85) call {line}\n{line}\n")
    refusal = _refused(error, compiled(text).programs[0], Source(text))
    assert "it has no bpf_task_pt_regs() for begin probes" in str(refusal)
    assert "Linux 5.15 has it; ustack(dwarf) works in uprobes without" in refusal.rendered


def test_decoding_needs_no_more_than_bytes_and_layout() -> None:
    decoder = EventDecoder(_layout())
    assert decoder.labels == ["numbers", "text", "stacks"]
    assert list(decoder.empty("text")) == ["ts_ns", "cpu", "pid", "tid", "s", "n", "t", "b"]
    assert all(len(column) == 0 for column in decoder.empty("stacks").values())
