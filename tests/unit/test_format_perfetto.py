"""Perfetto's traces, read back by the schema that Perfetto's developers publish."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema
from tests.unit import trace_dat_files as files
from tests.unit.sessions import empty_session, traced_session

from insitu.convert.formats.perfetto import export_perfetto
from insitu.convert.formats.protobuf_rows import filled, in_order
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.open import import_file, open_session
from insitu.errors import InsituError


def _packets(session):
    return schema.Trace.FromString(b"".join(export_perfetto(session, ExportOptions("run")))).packet


def _interned(packets, kind, field="name"):
    return {each.iid: getattr(each, field) for packet in packets for each in getattr(packet.interned_data, kind)}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The packets of trace-cmd's file."""
    directory = tmp_path_factory.mktemp("perfetto")
    import_file(files.file("version_7", directory), directory / "run.insitu")
    with open_session(directory / "run.insitu") as session:
        return _packets(session)


def test_events_that_perfetto_knows_are_ftrace_events_with_their_fields(imported):
    found = [
        (bundle.cpu, event.timestamp, event.pid, event.WhichOneof("event"), event)
        for bundle in (packet.ftrace_events for packet in imported)
        for event in bundle.event
    ]
    expected = [line for line in files.report("events") if line.event != "sys_enter_openat"]
    assert sorted(row[:4] for row in found) == sorted((e.cpu, e.ts_ns, e.tid, e.event) for e in expected)
    by_time = {(line.ts_ns, line.event): line.fields for line in expected}
    for _, ts_ns, _, name, event in found:
        if name in ("sched_switch", "sched_waking"):
            shown = {field.name: value for field, value in getattr(event, name).ListFields()}
            assert {field: by_time[ts_ns, name][field] for field in shown} == shown


def test_other_events_are_instants_on_their_threads_track_with_their_fields(imported):
    tids = {packet.track_descriptor.uuid: packet.track_descriptor.thread.tid for packet in imported}
    names = _interned(imported, "event_names")
    fields = _interned(imported, "debug_annotation_names")
    texts = _interned(imported, "debug_annotation_string_values", "str")
    found = []
    for packet in imported:
        event = packet.track_event
        if packet.HasField("track_event") and names.get(event.name_iid) == "sys_enter_openat":
            assert event.type == schema.TrackEvent.TYPE_INSTANT
            values = {
                fields[note.name_iid]: texts[note.string_value_iid].decode()
                if note.HasField("string_value_iid")
                else note.uint_value or note.int_value
                for note in event.debug_annotations
            }
            found.append((packet.timestamp, tids[event.track_uuid], values))
    expected = [line for line in files.report("events") if line.event == "sys_enter_openat"]
    assert [row[:2] for row in found] == sorted((line.ts_ns, line.tid) for line in expected)
    for (ts_ns, _, values), line in zip(found, sorted(expected, key=lambda each: each.ts_ns), strict=True):
        assert (ts_ns, {name: values[name] for name in line.fields}) == (line.ts_ns, line.fields)


def test_spans_are_slices_that_nest_on_a_track_of_their_thread_and_category(tmp_path):
    rows = [
        (100, 50, "call", "outer", 0),
        (110, 10, "call", "inner", 1),
        (120, None, "wait", "open", 0),
        (130, 40, "call", "crossing", 0),
    ]
    with open_session(traced_session(tmp_path / "run.insitu", rows)) as session:
        packets = _packets(session)
    names = _interned(packets, "event_names")
    tracks = {packet.track_descriptor.uuid: packet.track_descriptor for packet in packets}
    stacks: dict[int, list[str]] = {}
    found = []
    for packet in packets:
        event = packet.track_event
        if event.type == schema.TrackEvent.TYPE_SLICE_BEGIN:
            stacks.setdefault(event.track_uuid, []).append(names[event.name_iid])
        elif event.type == schema.TrackEvent.TYPE_SLICE_END:
            track = tracks[event.track_uuid]
            found.append((packet.timestamp, stacks[event.track_uuid].pop(), track.name))
            assert tracks[track.parent_uuid].thread.tid == 7
    assert sorted(found) == [(120, "inner", "call"), (150, "outer", "call"), (170, "crossing", "call (2)")]
    assert [stack for stack in stacks.values() if stack] == [["open"]]


def test_samples_have_their_callstack_from_the_outermost_frame(tmp_path):
    path = tmp_path / "script.txt"
    path.write_text("prog 7 [001] 1.000000001: 5 cpu-clock: \n\t11 leaf (/bin/p)\n\t22 main (/bin/p)\n\n")
    with open_session(path) as session:
        packets = _packets(session)
    functions = _interned(packets, "function_names", "str")
    frames = {each.iid: each.function_name_id for packet in packets for each in packet.interned_data.frames}
    stacks = {each.iid: each.frame_ids for packet in packets for each in packet.interned_data.callstacks}
    (sample,) = [packet for packet in packets if packet.HasField("perf_sample")]
    assert (sample.timestamp, sample.perf_sample.tid, sample.perf_sample.cpu) == (10**9 + 1, 7, 1)
    assert [functions[frames[frame]] for frame in stacks[sample.perf_sample.callstack_iid]] == [b"main", b"leaf"]


def test_counters_are_tracks_with_unit_and_value(tmp_path):
    with open_session(traced_session(tmp_path / "run.insitu", [], [(5, 1.5), (6, -2.0)])) as session:
        packets = _packets(session)
    (track,) = [each.track_descriptor for each in packets if each.track_descriptor.HasField("counter")]
    assert (track.name, track.counter.unit_name) == ("free memory", "bytes")
    values = [
        (packet.timestamp, packet.track_event.double_counter_value)
        for packet in packets
        if packet.track_event.track_uuid == track.uuid and packet.HasField("track_event")
    ]
    assert values == [(5, 1.5), (6, -2.0)]


def test_a_session_without_rows_is_refused(tmp_path):
    empty = empty_session(tmp_path / "run.insitu")
    with open_session(empty) as session, pytest.raises(InsituError, match="spans, counters, samples and events"):
        _packets(session)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.integers(-(2**63), 2**63 - 1),
            st.integers(0, 2**32 - 1),
            st.floats(),
            st.text(st.characters(codec="utf-8"), max_size=4),
        ),
        min_size=1,
    )
)
def test_any_value_of_a_column_is_read_back(rows):
    def made(timestamp, value, sequence, number, name):
        note = schema.DebugAnnotation(int_value=value, name=name)
        event = schema.TrackEvent(double_counter_value=number, debug_annotations=[note])
        packet = schema.TracePacket(timestamp=timestamp, trusted_packet_sequence_id=sequence, track_event=event)
        return schema.Trace(packet=[packet])

    timestamp, value, sequence, number, name = zip(*rows, strict=True)
    columns = {
        "timestamp": np.array(timestamp, np.uint64),
        "value": np.array(value, np.int64),
        "sequence": np.array(sequence, np.uint32),
        "number": np.array(number, np.float64),
        "name": list(name),
    }
    packets = schema.Trace.FromString(in_order(list(filled(made, columns)), len(rows))).packet
    found = [
        (
            packet.timestamp,
            packet.track_event.debug_annotations[0].int_value,
            packet.trusted_packet_sequence_id,
            packet.track_event.double_counter_value,
            packet.track_event.debug_annotations[0].name,
        )
        for packet in packets
    ]
    assert list(map(repr, found)) == list(map(repr, rows))


def test_every_event_is_there_once(imported):
    of_wakeups = {packet.track_descriptor.uuid for packet in imported if packet.track_descriptor.name == "wakeups"}
    events = sum(packet.HasField("track_event") for packet in imported)
    events -= sum(packet.track_event.track_uuid in of_wakeups for packet in imported)
    events += sum(len(packet.ftrace_events.event) for packet in imported)
    assert events == 120
