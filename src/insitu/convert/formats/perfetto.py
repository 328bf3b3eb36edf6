"""Perfetto's trace format (protobuf), by the schema that the package ``perfetto`` publishes.

Kernel events that the schema knows become ftrace events, from which Perfetto makes its scheduling tracks and thread
states; other events are instants on their thread's track, with their fields. Who woke whom is a flow. Times are the
session's (CLOCK_MONOTONIC), given as Perfetto's default clock.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from insitu.convert.formats.perfetto_events import ftrace_bundles, ftrace_message, instants
from insitu.convert.formats.perfetto_interned import SEQUENCE, Interned, packet_bytes, packets, trace
from insitu.convert.formats.perfetto_wakeups import wakeups
from insitu.convert.formats.protobuf_rows import filled, in_order
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.span_order import edges, lanes
from insitu.convert.formats.trace_tables import (
    OPEN_NS,
    Spans,
    Threads,
    counters,
    event_tables,
    require_trace,
    spans,
    threads,
    within,
)
from insitu.session.core_tables import SAMPLE
from insitu.session.machines import machines
from insitu.session.weighted_stacks import check_weights
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["export_perfetto"]

I64 = NDArray[np.int64]

_BATCH_ROWS: Final = 1 << 18
# uuids: of a upid, of a utid, of its wakeups, of other tracks.
_PROCESS, _THREAD, _WAKEUPS, _OTHER = 1 << 32, 2 << 32, 3 << 32, 4 << 32
_BOOTTIME, _MONOTONIC, _REALTIME = 6, 3, 1  # protos/perfetto/common/builtin_clock.proto


def export_perfetto(session: "Session", options: ExportOptions) -> Iterator[bytes]:
    """The packets of a session's threads, spans, counters, samples and events. Raises InsituError without any."""
    require_trace(session, "perfetto", samples=True)
    yield _head(session)
    who = threads(session)
    yield _thread_tracks(who)
    interned = Interned()
    if (found := spans(session, len(who.tid))) is not None:
        yield from _slices(found, interned, machines(session).cpu)
    yield from _counters(session, who)
    yield from _samples(session, who, interned)
    yield from wakeups(session, who, interned, _THREAD, _WAKEUPS)
    for events in event_tables(session, len(who.tid)):
        message = ftrace_message(events.name)
        if message is not None:
            yield from ftrace_bundles(events, message, who.tid)
        else:
            yield from instants(events, interned, (_THREAD + events.utid).astype(np.uint64))


def _head(session: "Session") -> bytes:
    manifest = session.manifest
    packet = schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, sequence_flags=1)  # incremental state cleared
    clocks = packet.clock_snapshot.clocks
    for clock in (_BOOTTIME, _MONOTONIC):
        clocks.add(clock_id=clock, timestamp=manifest.start_ns)
    if manifest.start_realtime_ns:
        clocks.add(clock_id=_REALTIME, timestamp=manifest.start_realtime_ns)
    system = schema.TracePacket(trusted_packet_sequence_id=SEQUENCE)
    utsname = system.system_info.utsname
    utsname.sysname, utsname.release, utsname.machine = "Linux", manifest.kernel, manifest.machine
    return packet_bytes(packet, system)


def _thread_tracks(who: Threads) -> bytes:
    """The tracks of each process and then of its threads: a pid that is used again is a process of its own so."""
    tracks = []
    by_process = np.argsort(who.upid, kind="stable")
    ends = np.searchsorted(who.upid[by_process], np.arange(len(who.process_pid)), side="right").tolist()
    start = 0
    for upid, (pid, name, end) in enumerate(zip(who.process_pid.tolist(), who.process_name, ends, strict=True)):
        track = schema.TrackDescriptor(uuid=_PROCESS + upid)
        track.process.pid = pid
        track.process.process_name = name
        track.process.cmdline.extend([who.cmdline[upid]] if who.cmdline[upid] else [])
        tracks.append(track)
        for utid in by_process[start:end].tolist():
            track = schema.TrackDescriptor(uuid=_THREAD + utid, parent_uuid=_PROCESS + upid)
            track.thread.pid, track.thread.tid, track.thread.thread_name = pid, int(who.tid[utid]), who.name[utid]
            tracks.append(track)
        start = end
    return _described(tracks)


def _described(tracks: list[Any]) -> bytes:
    return packet_bytes(*(schema.TracePacket(track_descriptor=track) for track in tracks))


def _slices(found: Spans, interned: Interned, cpu_name: Callable[[int], str]) -> Iterator[bytes]:
    """A track for each thread and category (of the idle task: CPU and category); more where its spans overlap."""
    keys, track = np.unique(np.stack((found.owner, found.category)), axis=1, return_inverse=True)
    lane = lanes(track, found.ts_ns, found.end_ns, found.depth)
    triples, track = np.unique(np.stack((keys[0][track], found.category, lane)), axis=1, return_inverse=True)
    described = []
    for at, (thread, category, number) in enumerate(triples.T.tolist()):
        one = schema.TrackDescriptor(uuid=_OTHER + at, name=found.categories[category])
        if number:
            one.name += f" ({number + 1})"
        if thread > 0:
            one.parent_uuid = _THREAD + thread
        else:
            one.name += f", {cpu_name(-1 - thread)}"
        described.append(one)
    yield _described(described)
    name_ids = np.array(interned.ids("event_names", found.names), np.uint32)
    category_ids = np.array(interned.ids("event_categories", found.categories), np.uint32)
    yield interned.packet()
    span, is_end = edges(track, found.ts_ns, found.end_ns, found.depth)
    ended = ~is_end | (found.end_ns[span] < OPEN_NS)
    span, is_end = span[ended], is_end[ended]
    kinds = schema.TrackEvent

    def begin(ts: int, track: int, name: int, category: int) -> Any:
        event = kinds(type=kinds.TYPE_SLICE_BEGIN, track_uuid=track, name_iid=name, category_iids=[category])
        return trace(timestamp=ts, track_event=event, sequence_flags=2)

    def end(ts: int, track: int) -> Any:
        return trace(timestamp=ts, track_event=kinds(type=kinds.TYPE_SLICE_END, track_uuid=track))

    for start in range(0, len(span), _BATCH_ROWS):
        row, ends = span[start : start + _BATCH_ROWS], is_end[start : start + _BATCH_ROWS]
        begins, closes = np.flatnonzero(~ends), np.flatnonzero(ends)
        begun, closed = row[begins], row[closes]
        columns: dict[str, NDArray[Any]] = {
            "ts": _u64(found.ts_ns[begun]),
            "track": _u64(_OTHER + track[begun]),
            "name": name_ids[found.name[begun]],
            "category": category_ids[found.category[begun]],
        }
        parts = [part._replace(rows=begins[part.rows]) for part in filled(begin, columns)]
        columns = {"ts": _u64(found.end_ns[closed]), "track": _u64(_OTHER + track[closed])}
        parts += [part._replace(rows=closes[part.rows]) for part in filled(end, columns)]
        yield in_order(parts, len(row))


def _counters(session: "Session", who: Threads) -> Iterator[bytes]:
    found = counters(session, len(who.tid))
    if found is None:
        return
    first = _OTHER + (1 << 31)
    described = []
    for at, (_, name, unit, utid) in enumerate(found.tracks):
        track = schema.TrackDescriptor(uuid=first + at, name=name)
        if utid:
            track.parent_uuid = _THREAD + utid
        track.counter.unit_name = unit
        described.append(track)
    yield _described(described)
    columns = {"ts": _u64(found.ts_ns), "track": _u64(first + found.track), "value": found.value}
    kinds = schema.TrackEvent

    def sampled(ts: int, track: int, value: float) -> Any:
        event = kinds(type=kinds.TYPE_COUNTER, track_uuid=track, double_counter_value=value)
        return trace(timestamp=ts, track_event=event)

    yield from packets(sampled, columns)


def _samples(session: "Session", who: Threads, interned: Interned) -> Iterator[bytes]:
    if SAMPLE.name not in session.tables:
        return
    found = session.sql(
        "select ts_ns, utid, cpu, stack, event_type, weight from sample where ts_ns > 0 order by ts_ns"
    )
    if not len(found):
        return
    utid = within(found["utid"].to_numpy().astype(np.int64), len(who.tid))
    stack = found["stack"].to_numpy().astype(np.int64)
    used, of_row = np.unique(stack, return_inverse=True)
    tree = session.sql("select parent, frame from stack order by id")
    parent, frame = tree["parent"].fill_null(0).to_numpy(), tree["frame"].fill_null(-1).to_numpy()
    ids = interned.callstacks(used.tolist(), parent, frame, session["frame"].sort("id"))
    yield interned.packet()
    cpu = np.maximum(found["cpu"].to_numpy(), 0).astype(np.uint32)
    events = found["event_type"].unique().to_list()
    names = dict(session.sql("select id, name from event_type").rows())
    # Perfetto draws what the event has counted on each CPU. It knows one event: of several, samples are counted.
    name, steps = (names.get(events[0], ""), found["weight"]) if len(events) == 1 else ("samples", None)
    if steps is not None:
        check_weights(steps.to_numpy(), f"{session.name}: {SAMPLE.name}", name)
    yield _sampled_event(valid_text(name) or "samples")
    columns = {
        "ts": _u64(found["ts_ns"].to_numpy()),
        "cpu": cpu,
        "count": _running_sums(np.ones(len(cpu), np.int64) if steps is None else steps.to_numpy(), cpu),
        "pid": who.pid[utid].astype(np.uint32),
        "tid": who.tid[utid].astype(np.uint32),
        "stack": np.array(ids, np.uint32)[of_row],
    }

    def sampled(ts: int, cpu: int, count: int, pid: int, tid: int, stack: int) -> Any:
        sample = schema.PerfSample(cpu=cpu, timebase_count=count, pid=pid, tid=tid, callstack_iid=stack)
        return trace(timestamp=ts, perf_sample=sample, sequence_flags=2)

    yield from packets(sampled, columns)


def _sampled_event(name: str) -> bytes:
    packet = schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, sequence_flags=2)
    packet.trace_packet_defaults.perf_sample_defaults.timebase.name = name
    return packet_bytes(packet)


def _running_sums(values: NDArray[Any], cpu: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """The sum of the values of each CPU up to each of them."""
    sums = np.zeros(len(values), np.uint64)
    for number in np.unique(cpu).tolist():
        rows = np.flatnonzero(cpu == number)
        sums[rows] = np.cumsum(_u64(values[rows]))
    return sums


def _u64(values: NDArray[Any]) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.maximum(values, 0).astype(np.uint64)
    return found
