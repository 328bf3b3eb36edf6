"""From perf's records to tables, window by window: replay the processes, reduce the stacks, look up addresses."""

import gc
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.formats.perf_records import EventAttr, SampleBatch, SampleDecoder
from insitu.convert.formats.perf_stream import Stream
from insitu.convert.formats.side_records import SideRecords
from insitu.convert.raw import RawRecording
from insitu.convert.stacks import chains_of
from insitu.convert.tracing_frames import without_tracing
from insitu.kernel.perf_event import Software, Type
from insitu.session.core_tables import SAMPLE
from insitu.session.distinct import offsets_of
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter
from insitu.symbols.unwind import UserStacks

__all__ = ["convert_perf", "convert_samples", "event_unit", "is_this_boot", "no_collector", "side_records_of"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_REORDERED_ROWS: Final = 1 << 20  # rows of one stream may be this far out of time order
_MODIFIERS: Final = re.compile("[a-zA-Z]*")
_CLOCKS: Final = {(Type.SOFTWARE, Software.CPU_CLOCK), (Type.SOFTWARE, Software.TASK_CLOCK)}


class _Columns:
    """Rows of the sample table. Plain arrays of equal length."""

    __slots__ = ("cpu", "event", "pid", "stack", "tid", "ts_ns", "weight")

    def __init__(self, ts_ns: I64, cpu: I32, tid: I32, pid: I32, event: I32, stack: I32, weight: I64) -> None:
        self.ts_ns, self.cpu, self.tid, self.pid = ts_ns, cpu, tid, pid
        self.event, self.stack, self.weight = event, stack, weight

    def __len__(self) -> int:
        return len(self.ts_ns)

    def take(self, rows: "I64 | slice") -> "_Columns":
        return _Columns(*(getattr(self, name)[rows] for name in _FIELDS))

    @staticmethod
    def joined(parts: "Sequence[_Columns]") -> "_Columns":
        return _Columns(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


_FIELDS: Final = ("ts_ns", "cpu", "tid", "pid", "event", "stack", "weight")


def convert_perf(
    recording: RawRecording, writer: SessionWriter, *, as_perf: bool = False, symfs: Path | None = None
) -> None:
    """Decode, unwind and symbolize into ``writer``; memory does not grow with the recording's length.

    ``as_perf`` resolves return addresses unadjusted, not the call before them; for the rest see Addresses.
    """
    with no_collector():
        addresses = Addresses(
            writer,
            side_records_of(recording),
            build_ids=recording.build_ids,
            live=recording.live,
            kallsyms=recording.kallsyms,
            as_perf=as_perf,
            unwinds=any(attr.regs_user for attr in recording.attrs),
            max_stack=recording.max_stack,
            symfs=symfs,
        )
        convert_samples(recording, writer, addresses, as_perf=as_perf)
        addresses.finish()


def side_records_of(*recordings: RawRecording) -> SideRecords:
    """The side-band records of recordings: mappings, names, forks, exits, losses."""
    found = SideRecords()
    for recording in recordings:
        for stream in recording.streams:
            for window in stream:
                found.add(window, recording.attrs)
    return found


def convert_samples(
    recording: RawRecording, writer: SessionWriter, addresses: Addresses, *, as_perf: bool = False
) -> None:
    """Write the samples of a recording whose processes ``addresses`` knows."""
    types = [
        writer.event_type(attr.name, event_unit(attr), period=_period(attr), source=recording.source)
        for attr in recording.attrs
    ]
    event_types = np.array(types or [0], np.int32)
    samples = _Samples(recording, writer, addresses, as_perf)
    for columns in _in_order([samples.decoded(stream) for stream in recording.streams]):
        writer.append(
            SAMPLE,
            {
                "ts_ns": columns.ts_ns,
                "utid": writer.processes.utids(columns.tid, columns.ts_ns, columns.pid),
                "cpu": columns.cpu,
                "event_type": event_types[columns.event],
                "stack": columns.stack,
                "weight": columns.weight,
            },
        )
    writer.append(SAMPLE, {})
    writer.lost("malformed samples", samples.malformed)
    if recording.torn:
        writer.notes.append(f"incomplete records dropped ({recording.torn} bytes)")


class _Samples:
    def __init__(self, recording: RawRecording, writer: SessionWriter, addresses: Addresses, as_perf: bool) -> None:
        self._decoder = SampleDecoder(recording.attrs)
        self._writer = writer
        self._is_tracepoint = np.array([attr.type == Type.TRACEPOINT for attr in recording.attrs] or [False])
        self._addresses = addresses
        self._as_perf = as_perf
        self.malformed = 0

    def decoded(self, stream: Iterable[Stream]) -> Iterator[_Columns]:
        for window in stream:
            for batch in self._decoder.batches(window):
                epoch = self._addresses.epochs(batch.pid, batch.ts_ns)
                chains = chains_of(batch, _unwound(batch, epoch, self._addresses), move_back=not self._as_perf)
                self.malformed += batch.malformed
                stack = self._addresses.nodes(chains, epoch)
                traced = self._is_tracepoint[batch.event]
                if traced.any() and not self._as_perf:
                    stack[traced] = without_tracing(self._writer, stack[traced])
                yield _Columns(batch.ts_ns, batch.cpu, batch.tid, batch.pid, batch.event, stack, batch.period)


def event_unit(attr: EventAttr) -> str:
    """What the weights of an event's samples count: "ns" for the clocks, else the event without its modifiers."""
    if (attr.type, attr.config) in _CLOCKS:
        return "ns"
    name, colon, modifiers = attr.name.rpartition(":")
    is_tracepoint = attr.type == Type.TRACEPOINT and ":" not in name
    return attr.name if is_tracepoint or not colon or not _MODIFIERS.fullmatch(modifiers) else name


def _period(attr: EventAttr) -> int:
    return 0 if attr.freq else min(attr.sample_period, 2**62)


def _in_order(streams: Sequence[Iterator[_Columns]]) -> Iterator[_Columns]:
    """The rows of several streams, each roughly in the order of time, merged into one order of time.

    Streams are read up to the same time; rows that may still be preceded by others are held back.
    """
    waiting: list[_Columns] = []
    held = 0
    for columns in _merged(streams):
        waiting.append(columns)
        held += len(columns)
        if held >= 2 * _REORDERED_ROWS:
            rows = _sorted(_Columns.joined(waiting))
            yield rows.take(slice(0, held - _REORDERED_ROWS))
            waiting, held = [rows.take(slice(held - _REORDERED_ROWS, None))], _REORDERED_ROWS
    if waiting:
        yield _sorted(_Columns.joined(waiting))


def _merged(streams: Sequence[Iterator[_Columns]]) -> Iterator[_Columns]:
    ahead: dict[int, _Columns] = {}
    live = dict(enumerate(streams))
    while live or ahead:
        for number in [n for n in live if n not in ahead]:
            rows = next(live[number], None)
            if rows is None:
                del live[number]
            elif len(rows):
                ahead[number] = _sorted(rows)
        if any(number not in ahead for number in live):
            continue
        if not ahead:
            return
        horizon = min((int(ahead[number].ts_ns[-1]) for number in live), default=2**63 - 1)
        taken = []
        for number, rows in list(ahead.items()):
            at = int(np.searchsorted(rows.ts_ns, horizon, side="right"))
            taken.append(rows.take(slice(0, at)))
            if at == len(rows):
                del ahead[number]
            else:
                ahead[number] = rows.take(slice(at, None))
        yield _Columns.joined(taken)


def _sorted(rows: _Columns) -> _Columns:
    ts_ns = rows.ts_ns
    if bool((ts_ns[1:] >= ts_ns[:-1]).all()):
        return rows
    return rows.take(np.argsort(ts_ns, kind="stable"))


def _unwound(batch: SampleBatch, epoch: I32, addresses: Addresses) -> tuple[I64, U64] | None:
    """User callchains of samples with registers and stack copies; None if there are none."""
    rows = np.flatnonzero(batch.regs_at >= 0)
    if not len(rows):
        return None
    width = batch.regs_mask.bit_count()
    stacks = UserStacks(
        registers=batch.words[batch.regs_at[rows][:, None] + np.arange(width)],
        mask=batch.regs_mask,
        stack=batch.words.view(np.uint8),
        stack_start=batch.stack_at[rows],
        stack_size=batch.stack_size[rows],
        epoch=epoch[rows],
        abi=batch.words[batch.regs_at[rows] - 1],  # the word before the registers
    )
    offset, address = addresses.unwound(stacks)
    lengths = np.zeros(len(batch), np.int64)
    lengths[rows] = np.diff(offset)
    return offsets_of(lengths), address


def is_this_boot(path: Path, manifest: Manifest) -> bool:
    """Whether a file of another tool seems to be recorded on this machine since its last boot."""
    here = os.uname()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return manifest.host == here.nodename and manifest.kernel == here.release and path.stat().st_mtime > booted


@contextmanager
def no_collector() -> Iterator[None]:
    """No garbage collection inside: converting makes many small objects and no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
