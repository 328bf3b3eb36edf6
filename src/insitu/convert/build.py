"""From raw records to a symbolized profile: replay the processes, reduce the stacks, look up their addresses."""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_records import SampleBatch, SampleDecoder, side_records
from insitu.convert.processes import Processes, replay
from insitu.convert.raw import RawRecording
from insitu.convert.stacks import StackTable, chains_of, stack_tree
from insitu.convert.symbolize import Resolver
from insitu.session.profile import Lost, Profile, Thread
from insitu.symbols.registers import AARCH64, X86_64
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import Unwinder, UserStacks

__all__ = ["Built", "build", "is_this_boot", "no_collector"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Built:
    """A profile and the processes it was recorded from."""

    profile: Profile
    processes: Processes


def build(recording: RawRecording, *, as_perf: bool = False) -> Built:
    """Decode, unwind, symbolize.

    ``as_perf`` does as perf script does with callchains that the kernel recorded: it looks return addresses up as
    they are, not at the call before them, and shows no inlined functions. (Those unwound from stack copies perf
    treats as we do, but for jitted code, at which it ends them.)
    """
    attrs = recording.attrs
    records = [record for stream in recording.streams for record in side_records(stream, attrs)]
    processes = replay(records, recording.build_ids)
    unwinds = any(attr.regs_user for attr in attrs)
    symbols = Symbolizer(live=recording.live, inlines=unwinds or not as_perf)
    machine = AARCH64 if recording.info.get("machine") == "aarch64" else X86_64
    # Code that a run-time compiler made has no call frame information; perf's stacks end there.
    unwinder = Unwinder(processes.spaces, symbols.open_module, machine=machine, frame_pointers=not as_perf)
    stacks = StackTable()
    columns: list[tuple[I64, I32, I32, I32, I64]] = []
    malformed = 0
    decoder = SampleDecoder(attrs)
    for stream in recording.streams:
        for batch in decoder.batches(stream):
            epoch = processes.epochs(batch.pid, batch.ts_ns)
            stacks.add(chains_of(batch, _unwound(batch, epoch, unwinder), move_back=not as_perf), epoch)
            columns.append((batch.ts_ns, batch.cpu, batch.tid, batch.event, batch.period))
            malformed += batch.malformed
    rows, epoch, chains = stacks.finish()
    resolver = Resolver(symbols, processes.spaces)
    parent, frame, leaf = stack_tree(chains, epoch, resolver)
    ts_ns, cpu, tid, event, weight = _columns(columns)
    order = np.argsort(ts_ns, kind="stable")
    profile = Profile(
        frames=resolver.frames,
        stack_parent=parent,
        stack_frame=frame,
        ts_ns=ts_ns[order],
        cpu=cpu[order],
        tid=tid[order],
        stack=leaf[rows][order],
        event=event[order],
        weight=weight[order],
        events=[attr.name for attr in attrs],
        threads=_with_idle_task(processes.threads, tid),
        lost=[*processes.lost, *_unreadable(malformed)],
        info=_info(recording, processes, symbols.notes),
    )
    return Built(profile, processes)


def _with_idle_task(threads: list[Thread], tid: I32) -> list[Thread]:
    """``threads``, and the idle task if it was sampled: no record names thread 0 (init/init_task.c calls it so)."""
    if not (tid == 0).any() or any(thread.tid == 0 for thread in threads):
        return threads
    return [Thread(0, 0, comm="swapper"), *threads]


def _columns(parts: Sequence[tuple[I64, I32, I32, I32, I64]]) -> tuple[I64, I32, I32, I32, I64]:
    if not parts:
        wide, narrow = np.zeros(0, np.int64), np.zeros(0, np.int32)
        return wide, narrow, narrow, narrow, wide
    ts_ns, cpu, tid, event, weight = zip(*parts, strict=True)
    joined = np.concatenate
    return joined(ts_ns), joined(cpu), joined(tid), joined(event), joined(weight)


def _unwound(batch: SampleBatch, epoch: I32, unwinder: Unwinder) -> tuple[I64, U64] | None:
    """User callchains of samples that carry registers and stack copies; None where none does."""
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
    )
    offset, address = unwinder.unwind(stacks)
    lengths = np.zeros(len(batch), np.int64)
    lengths[rows] = np.diff(offset)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), address


def _unreadable(malformed: int) -> list[Lost]:
    return [Lost(0, "malformed samples", -1, malformed)] if malformed else []


def _info(recording: RawRecording, processes: Processes, symbol_notes: list[str]) -> dict[str, object]:
    info = dict(recording.info)
    earlier = info.get("notes")
    notes = [*(earlier if isinstance(earlier, list) else []), *symbol_notes]
    if recording.torn:
        notes.append(f"{recording.torn} bytes at the end belong to no whole record and were dropped")
    if processes.throttled:
        notes.append(f"the kernel throttled sampling {processes.throttled} times")
    attr = recording.attrs[0] if recording.attrs else None
    if attr is not None and attr.freq:
        info.setdefault("frequency_hz", attr.sample_period)
    return {**info, "notes": notes}


def is_this_boot(path: Path, info: dict[str, object]) -> bool:
    """Whether a file of another tool was recorded on this machine since it booted, as far as can be told."""
    here = os.uname()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return info.get("host") == here.nodename and info.get("kernel") == here.release and path.stat().st_mtime > booted


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
