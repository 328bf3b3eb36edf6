"""System calls: the events that record/sources/ptrace.py keeps, to span, syscall and signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars

from insitu.convert.addresses import Addresses
from insitu.convert.call_stacks import call_stacks
from insitu.convert.programs import Programs
from insitu.convert.sources import RawSource
from insitu.convert.syscalls import path_of, write_signals
from insitu.session.core_tables import SIGNAL, SPAN, SYSCALL
from insitu.session.writer import SessionWriter
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Event, Executed, Exit, Exited, Forked, LostHere, Signal
from insitu.syscalls.decode import Decoder, call_name
from insitu.syscalls.descriptors import descriptor_arguments
from insitu.syscalls.event_bytes import read_events

__all__ = ["convert_source"]

_BATCH: Final = 1 << 14


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "syscalls_ptrace"."""
    for table in (SPAN, SYSCALL, SIGNAL):
        writer.append(table, {})
    decoder = Decoder(TextOptions(string_limit=int(source.layout["string_limit"])))
    programs = Programs(writer)
    calls: list[Call] = []
    signals: list[Signal] = []
    for file in source.files:
        with file.open("rb") as records:
            for event in _joined(read_events(records)):
                if isinstance(event, Call):
                    calls.append(event)
                elif isinstance(event, Signal):
                    signals.append(event)
                elif isinstance(event, Forked):
                    programs.forked(event.ts_ns, event.pid, event.child_pid)
                elif isinstance(event, Executed):
                    programs.executed(event.ts_ns, event.pid, exe=event.exe, arguments=event.arguments)
                elif isinstance(event, LostHere):
                    writer.lost(source.id, event.records, ts_ns=event.ts_ns)
                if len(calls) >= _BATCH:
                    _write_calls(calls, decoder, writer)
                    calls = []
    _write_calls(calls, decoder, writer)
    if signals:
        columns = Signal._fields
        write_signals({name: [each[at] for each in signals] for at, name in enumerate(columns)}, writer)


def _joined(events: Iterator[Event]) -> Iterator[Event | Call]:
    """Yields calls instead of their halves, when both are there or none will come, and other events as they are."""
    open_: dict[int, Enter] = {}
    for event in events:
        if isinstance(event, Enter):
            earlier = open_.pop(event.tid, None)
            if earlier is not None:
                yield Call(earlier)
            open_[event.tid] = event
        elif isinstance(event, Exit):
            enter = open_.pop(event.tid, None)
            if enter is not None:
                yield Call(enter, event)
        else:
            if isinstance(event, Executed) and event.old_tid != event.tid:
                replaced, caller = open_.pop(event.tid, None), open_.pop(event.old_tid, None)
                if caller is not None:
                    open_[event.tid] = caller
                if replaced is not None:
                    yield Call(replaced)
            elif isinstance(event, Exited) and event.tid in open_:
                yield Call(open_.pop(event.tid))
            yield event
    yield from map(Call, open_.values())


def _write_calls(calls: list[Call], decoder: Decoder, writer: SessionWriter) -> None:
    """Write calls to ``span`` and ``syscall``."""
    if not calls:
        return
    calls.sort(key=lambda call: call.enter.ts_ns)
    enters = [call.enter for call in calls]
    ids = writer.span_ids(len(calls))
    ts_ns = np.array([each.ts_ns for each in enters], np.int64)
    open_ = np.array([call.exit is None for call in calls])
    failed = np.array([call.failed for call in calls])
    ret = np.array([0 if call.exit is None else call.exit.ret for call in calls], np.int64)
    dur = np.ma.masked_array(np.array([call.dur_ns or 0 for call in calls], np.int64), open_)
    tids = np.array([each.tid for each in enters], np.int32)
    pids = np.array([each.pid for each in enters], np.int32)
    names = [call_name(each.abi, each.nr) for each in enters]
    span: dict[str, Any] = {
        "id": ids,
        "ts_ns": ts_ns,
        "dur_ns": dur,
        "self_ns": dur,
        "utid": writer.processes.utids(tids, ts_ns, pids),
        "category": ["syscall"] * len(calls),
        "name": names,
        "stack": call_stacks(writer, names, np.zeros(len(calls), np.int32)),
    }
    writer.append(SPAN, span)
    syscall: dict[str, Any] = {
        "span_id": ids,
        "abi": [each.abi for each in enters],
        "nr": np.array([each.nr & 0x7FFFFFFFFFFFFFFF for each in enters], np.int64),
        "ret": np.ma.masked_array(ret, open_),
        "errno": np.ma.masked_array(np.where(failed, -ret, 0).astype(np.int32), ~failed),
        "arguments": [", ".join(piece.text for piece in decoder.arguments(call)) for call in calls],
        "args": polars.Series([each.args for each in enters], dtype=polars.List(polars.UInt64)),
        "fd": [_descriptor(each) for each in enters],
        "path": [path_of(each) for each in enters],
        "lost_before": np.zeros(len(calls), np.int64),
    }
    writer.append(SYSCALL, syscall)


def _descriptor(enter: Enter) -> int | None:
    """The first descriptor among the arguments."""
    places = descriptor_arguments(enter.abi, enter.nr)
    value = enter.args[places[0]] & 0xFFFFFFFF if places else 1 << 31
    return None if value >> 31 else value
