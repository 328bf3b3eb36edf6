"""From the records of the script (syscalls_script.py) to events: memory with its halves, losses in their place."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from insitu.kernel.ring_buffer import BUSY, DISCARDED, record_stride
from insitu.record.sources.syscalls_script import ABI_SHIFT, ABIS, ATTACHED, NUMBER_MASK, SEQUENCE
from insitu.syscalls.call import (
    NOTHING,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Memory,
    Pieces,
    Signal,
)

__all__ = ["Joiner"]

_HEAD: Final = struct.Struct("<I4xIIQII")
_HEADER: Final = struct.Struct("<I")
_RING_HEADER: Final = 8
_SIGNED: Final = 1 << 63

Fields = tuple[int, ...]
Read = Callable[[int, int, int], bytes]
"""(thread, address, size) -> up to size bytes."""


class _Thread:
    """A thread's last call: its word, whether it is open, and pieces of memory that wait for their half."""

    __slots__ = ("memory", "open", "pieces", "sequence", "stack")

    def __init__(self) -> None:
        self.sequence = 1
        self.open = 0
        self.memory: Pieces | None = None
        self.pieces: list[tuple[int, int, bytes]] = []
        self.stack = 0


class Joiner:
    """Turns records into events, in the order of the records."""

    def __init__(self, layout: Mapping[str, Any], read: Read = lambda tid, address, size: b"") -> None:
        """``layout`` describes the records: probe/runtime/event_layout.py. ``read`` reads the memory of a thread
        that runs, as far as it still can."""
        self._read = read
        self._threads: dict[int, _Thread] = {}
        self._kinds: dict[int, tuple[Callable[..., None], struct.Struct, bool]] = {}
        self.events: list[Event] = []
        self.malformed = 0
        for number, kind in layout["kinds"].items():
            fields = kind["fields"]
            shape = struct.Struct(f"<{len(fields)}Q")
            label = str(kind["label"])
            self._kinds[int(number)] = (
                getattr(self, f"_{label}"),
                shape,
                "data" in [each["name"] for each in fields],
            )

    def add(self, data: bytes | memoryview, most: int = sys.maxsize) -> int:
        """Append the events of up to ``most`` whole records to ``events``; returns how many bytes those were."""
        at, kinds, head = 0, self._kinds, _HEAD.unpack_from
        end = len(data) - _HEAD.size
        while at <= end and most:
            most -= 1
            length, number, _, ts_ns, tid, pid = head(data, at)
            if length & (BUSY | DISCARDED):
                at += record_stride(length & ~(BUSY | DISCARDED))
                continue
            fields_at = at + _HEAD.size
            at += record_stride(length)
            found = kinds.get(number)
            if found is None or fields_at + found[1].size > len(data):
                self.malformed += 1
                continue
            handle, shape, has_data = found
            fields = shape.unpack_from(data, fields_at)
            if has_data:
                begin = fields_at + shape.size
                handle(ts_ns, pid, tid, *fields[:-1], bytes(data[begin : begin + fields[-1]]))
            else:
                handle(ts_ns, pid, tid, *fields)
        return at if at <= end else len(data)

    def _thread(self, tid: int) -> _Thread:
        found = self._threads.get(tid)
        if found is None:
            found = self._threads[tid] = _Thread()
        return found

    def _lost(self, ts_ns: int, count: int) -> None:
        self.events.append(LostHere(ts_ns, count))

    # Pieces

    def _memory(self, ts_ns: int, pid: int, tid: int, call: int, address: int, data: bytes) -> None:
        self._thread(tid).pieces.append((call, address, data))

    def _late(self, ts_ns: int, pid: int, tid: int, call: int, address: int, size: int, data: bytes) -> None:
        """What the entry should have read: BPF reads no page that is not in memory, and some calls do not either."""
        thread = self._threads.get(tid)
        if thread is None or thread.open != call or thread.memory is None:
            return
        data = data or self._read(tid, address, size)
        if data:
            thread.memory.pieces = [*thread.memory.pieces, (address, data)]

    def _taken(self, thread: _Thread, call: int, address: int = 0, data: bytes = b"") -> Pieces:
        """The pieces that came in front of a half of this call, and its own; those of lost halves are dropped."""
        found = [(at, piece) for word, at, piece in thread.pieces if word == call and piece]
        thread.pieces.clear()
        if data:
            found.append((address, data))
        return Pieces(found)

    # Halves

    def _entered(
        self, ts_ns: int, pid: int, tid: int, nr: int, call: int, args: Fields, address: int = 0, data: bytes = b""
    ) -> None:
        thread = self._thread(tid)
        sequence = call >> SEQUENCE
        lost = 1 if thread.open else 0
        if sequence > thread.sequence + 1:
            lost += 2 * (sequence - thread.sequence - 1)
        elif sequence <= thread.sequence:  # another thread of that number: the end of the one before is lost
            lost += 1
        if lost:
            self._lost(ts_ns, lost)
        memory: Memory = NOTHING
        thread.memory = None
        if address or thread.pieces:
            memory = thread.memory = self._taken(thread, call, address, data)
        abi = ABIS[call >> ABI_SHIFT & 3]
        self.events.append(Enter(ts_ns, pid, tid, abi, nr, args, memory, thread.stack, bool(call & ATTACHED)))
        thread.stack = 0
        thread.open, thread.sequence = call, sequence

    def _enter(self, ts_ns: int, pid: int, tid: int, nr: int, call: int, *args: int) -> None:
        self._entered(ts_ns, pid, tid, nr, call, args)

    def _enter_short(self, ts_ns: int, pid: int, tid: int, call: int, *args: int) -> None:
        self._entered(ts_ns, pid, tid, call & NUMBER_MASK, call, (*args, 0, 0, 0))

    def _enter_memory(self, ts_ns: int, pid: int, tid: int, call: int, *rest: Any) -> None:
        *args, address, data = rest
        self._entered(ts_ns, pid, tid, call & NUMBER_MASK, call, tuple(args), address, data)

    def _exit(self, ts_ns: int, pid: int, tid: int, call: int, ret: int, address: int = 0, data: bytes = b"") -> None:
        thread = self._thread(tid)
        if thread.open != call:
            self._lost(ts_ns, 1 + 2 * max(0, (call >> SEQUENCE) - thread.sequence - 1) + bool(thread.open))
            thread.pieces.clear()
            thread.open, thread.sequence = 0, call >> SEQUENCE
            return
        memory = self._taken(thread, call, address, data) if address or thread.pieces else NOTHING
        self.events.append(Exit(ts_ns, pid, tid, ret - 2 * _SIGNED if ret & _SIGNED else ret, memory))
        thread.open = 0

    _exit_memory = _exit

    # Everything else

    def _forked(self, ts_ns: int, pid: int, tid: int, child_pid: int, child_tid: int) -> None:
        self.events.append(Forked(ts_ns, pid, tid, child_pid, child_tid))

    def _executed(self, ts_ns: int, pid: int, tid: int, call: int, old_tid: int) -> None:
        if old_tid != tid and old_tid in self._threads:
            self._threads[tid] = self._threads.pop(old_tid)
        self.events.append(Executed(ts_ns, pid, tid, old_tid))

    def _exited(self, ts_ns: int, pid: int, tid: int, call: int, status: int) -> None:
        thread = self._threads.pop(tid, None)
        if thread is not None and call >> SEQUENCE > thread.sequence:
            self._lost(ts_ns, 2 * ((call >> SEQUENCE) - thread.sequence))
        self.events.append(Exited(ts_ns, pid, tid, status))

    def _signal(self, ts_ns: int, pid: int, tid: int, *fields: int) -> None:
        number, code, errno, *rest = fields
        self.events.append(Signal(ts_ns, pid, tid, number, _int(code), _int(errno), *rest))


def _int(value: int) -> int:
    """A C int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
