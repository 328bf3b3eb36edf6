"""Events in Perfetto's format: ftrace events where the schema has the event, else instants with annotations."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from insitu.convert.formats.perfetto_interned import SEQUENCE, Interned, packet_bytes, packets, trace
from insitu.convert.formats.protobuf_rows import Values, filled, in_order
from insitu.convert.formats.trace_tables import EventRows, coded

if TYPE_CHECKING:
    import polars

__all__ = ["ftrace_bundles", "ftrace_message", "instants"]

I64 = NDArray[np.int64]

_BUNDLE_EVENTS: Final = 1 << 15
_MOST_FIELDS: Final = 64
_OWN: Final = ("print", "generic", "kprobe_event")  # of FtraceEvent, but no tracepoints' fields


def ftrace_message(event: str) -> Any:
    """The descriptor of FtraceEvent's field for an event such as "sched_switch"; None where the schema has none."""
    found = schema.FtraceEvent.DESCRIPTOR.fields_by_name.get(event)
    return found if found is not None and found.message_type is not None and event not in _OWN else None


def ftrace_bundles(events: EventRows, message: Any, tid: I64) -> Iterator[bytes]:
    """The rows of an event as ftrace events, by CPU. Fields that the schema lacks are left out."""
    columns: dict[str, Values] = {}
    for field in message.message_type.fields:
        if field.name in events.fields.columns:
            values = _of_type(events.fields[field.name], field)
            if values is not None:
                columns[f"f_{field.name}"] = values
    columns["timestamp"] = events.ts_ns.astype(np.uint64)
    columns["pid"] = tid[events.utid].astype(np.uint32)

    def made(timestamp: int, pid: int, **fields: Any) -> Any:
        own = {name.removeprefix("f_"): value for name, value in fields.items()}
        event = schema.FtraceEvent(timestamp=timestamp, pid=pid, **{message.name: own})
        return schema.FtraceEventBundle(event=[event])

    for cpu in np.unique(events.cpu).tolist():
        rows = np.flatnonzero(events.cpu == cpu)
        for start in range(0, len(rows), _BUNDLE_EVENTS):
            at = rows[start : start + _BUNDLE_EVENTS]
            part = {name: _taken(values, at) for name, values in columns.items()}
            bundle = schema.FtraceEventBundle.FromString(in_order(list(filled(made, part)), len(at)))
            bundle.cpu = max(cpu, 0)
            yield packet_bytes(schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, ftrace_events=bundle))


def instants(events: EventRows, interned: Interned, track: NDArray[np.uint64]) -> Iterator[bytes]:
    """The rows of an event as instants on ``track`` (uuids), their fields as annotations; nulls are left out."""
    names = events.fields.columns[:_MOST_FIELDS]
    (name_id,) = interned.ids("event_names", [events.name])
    (category_id,) = interned.ids("event_categories", [events.category])
    field_ids = dict(zip(names, interned.ids("debug_annotation_names", names), strict=True))
    columns: dict[str, NDArray[Any]] = {"ts": events.ts_ns.astype(np.uint64), "track": track}
    kinds: dict[str, str] = {}
    null_pattern = np.zeros(len(track), np.uint64)
    for at, name in enumerate(names):
        kinds[name], columns[f"f_{name}"] = _annotation(events.fields[name], interned)
        null_pattern |= events.fields[name].is_null().to_numpy().astype(np.uint64) << np.uint64(at)
    yield interned.packet()

    def maker(present: Mapping[str, str]) -> Callable[..., Any]:
        def made(ts: int, track: int, **fields: Any) -> Any:
            notes = [{"name_iid": field_ids[name], kind: fields[f"f_{name}"]} for name, kind in present.items()]
            event = schema.TrackEvent(
                type=schema.TrackEvent.TYPE_INSTANT,
                track_uuid=track,
                name_iid=name_id,
                category_iids=[category_id],
                debug_annotations=notes,
            )
            return trace(timestamp=ts, track_event=event, sequence_flags=2)

        return made

    for pattern in np.unique(null_pattern).tolist():
        rows = np.flatnonzero(null_pattern == pattern)
        present = {name: kinds[name] for at, name in enumerate(names) if not pattern >> at & 1}
        part = {name: columns[name][rows] for name in ("ts", "track", *(f"f_{name}" for name in present))}
        yield from packets(maker(present), part)


def _annotation(values: "polars.Series", interned: Interned) -> tuple[str, NDArray[Any]]:
    """(field of DebugAnnotation, values) of a column."""
    kind = values.dtype
    if kind.is_unsigned_integer():
        return "uint_value", values.fill_null(0).to_numpy().astype(np.uint64)
    if kind.is_integer():
        return "int_value", values.fill_null(0).to_numpy().astype(np.int64)
    if kind.is_float():
        return "double_value", values.fill_null(0.0).to_numpy().astype(np.float64)
    code, texts = coded(_as_text(values))
    ids = interned.ids("debug_annotation_string_values", texts)
    return "string_value_iid", np.array(ids, np.uint32)[code]


def _as_text(values: "polars.Series") -> "polars.Series":
    import polars

    if values.dtype == polars.String:
        return values
    shown = [
        None if value is None else bytes(value).hex() if isinstance(value, bytes) else str(value)
        for value in values.to_list()
    ]
    return polars.Series(values.name, shown, dtype=polars.String)


def _of_type(values: "polars.Series", field: Any) -> Values | None:
    """A column as a field of the schema takes it; None where their types do not agree."""
    kind = values.dtype
    if field.type == field.TYPE_STRING:
        return [text or "" for text in _as_text(values).to_list()] if not kind.is_numeric() else None
    if not kind.is_integer():
        return None
    numbers = values.fill_null(0).to_numpy()
    if field.type in (field.TYPE_UINT64, field.TYPE_FIXED64):
        return numbers.astype(np.uint64) if field.type == field.TYPE_UINT64 else None
    if field.type == field.TYPE_UINT32:
        return numbers.astype(np.uint32)
    if field.type == field.TYPE_INT32:
        return numbers.astype(np.int32).astype(np.int64)
    return numbers.astype(np.int64) if field.type == field.TYPE_INT64 else None


def _taken(values: Values, rows: I64) -> Values:
    if isinstance(values, np.ndarray):
        return values[rows]
    return [values[row] for row in rows.tolist()]
