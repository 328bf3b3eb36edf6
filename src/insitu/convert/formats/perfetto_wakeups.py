"""Who woke whom, in Perfetto's format: a flow from an instant of the waker to the time that the woken one waited."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from insitu.convert.formats.perfetto_interned import SEQUENCE, Interned, packet_bytes, packets, trace
from insitu.convert.formats.trace_tables import Threads, within
from insitu.session.core_tables import THREAD_STATE

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["wakeups"]

_WAKINGS: Final = (
    "select ts_ns, dur_ns, utid, waker, coalesce(waker_ts_ns, ts_ns) as waker_ts_ns"
    f" from {THREAD_STATE.name} where state = 'runnable' and waker > 0 order by ts_ns"
)


def wakeups(session: "Session", who: Threads, interned: Interned, thread: int, track: int) -> Iterator[bytes]:
    """The packets of all threads that a thread woke, on a track of each thread.

    The uuids of threads' tracks begin at ``thread``, those of the new ones at ``track``. The slice ``runnable`` of a
    thread that was woken lasts until it got a CPU; an instant of its waker's, ``wakes NAME``, has an arrow to it.
    """
    if THREAD_STATE.name not in session.tables:
        return
    found = session.sql(_WAKINGS)
    if not len(found):
        return
    woken, waker = (within(found[name].to_numpy().astype(np.int64), len(who.tid)) for name in ("utid", "waker"))
    for utid in np.union1d(woken, waker).tolist():
        one = schema.TrackDescriptor(uuid=track + utid, parent_uuid=thread + utid, name="wakeups")
        yield packet_bytes(schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, track_descriptor=one))
    utids, of_row = np.unique(woken, return_inverse=True)
    wakes = interned.ids("event_names", [f"wakes {who.name[utid]}".rstrip() for utid in utids.tolist()])
    (runnable,) = interned.ids("event_names", ["runnable"])
    (category,) = interned.ids("event_categories", ["wakeup"])
    yield interned.packet()
    begin = found["ts_ns"].to_numpy()
    ended = found["dur_ns"].is_not_null().to_numpy()
    end = (begin + found["dur_ns"].fill_null(0).to_numpy())[ended]
    kinds = schema.TrackEvent

    def wakes_other(ts: int, track: int, name: int, flow: int) -> Any:
        event = kinds(type=kinds.TYPE_INSTANT, track_uuid=track, name_iid=name, category_iids=[category])
        event.flow_ids.append(flow)
        return trace(timestamp=ts, track_event=event, sequence_flags=2)

    def begins(ts: int, track: int, flow: int) -> Any:
        event = kinds(type=kinds.TYPE_SLICE_BEGIN, track_uuid=track, name_iid=runnable, category_iids=[category])
        event.terminating_flow_ids.append(flow)
        return trace(timestamp=ts, track_event=event, sequence_flags=2)

    def ends(ts: int, track: int) -> Any:
        return trace(timestamp=ts, track_event=kinds(type=kinds.TYPE_SLICE_END, track_uuid=track))

    flow = np.arange(1, len(found) + 1, dtype=np.uint64)
    names = np.array(wakes, np.uint32)[of_row]
    at = {"ts": _u64(found["waker_ts_ns"].to_numpy()), "track": _u64(track + waker)}
    yield from packets(wakes_other, {**at, "name": names, "flow": flow}, fixed=["flow"])
    at = {"ts": _u64(begin), "track": _u64(track + woken)}
    yield from packets(begins, {**at, "flow": flow}, fixed=["flow"])
    yield from packets(ends, {"ts": _u64(end), "track": at["track"][ended]})


def _u64(values: NDArray[Any]) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.maximum(values, 0).astype(np.uint64)
    return found
