"""User stacks of stopped tracees: copied at the stop, unwound and named in batches afterwards."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from insitu.kernel import procfs, ptrace
from insitu.kernel.process_memory import ProcessMemory
from insitu.session.distinct import offsets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insitu.symbols.process_map import ProcessMap
    from insitu.symbols.symbolizer import Symbolizer
    from insitu.symbols.unwind import Unwinder

__all__ = ["Stacks"]

_COPIED_BYTES: Final = 1 << 15
"""Of the stack: 250 frames of 128 bytes, as many as are shown of strace(1)'s."""
_MOST_DEPTH: Final = 256
_MOST_KEPT: Final = 1 << 16
"""Unwound stacks of calls that nobody has asked for yet."""
_MOST_PROCESSES: Final = 1 << 12


class _Copy(NamedTuple):
    """What a thread's stack was at a stop. ``areas`` are the executable ones of its process."""

    stack: int
    pid: int
    areas: tuple[procfs.Area, ...]
    registers: tuple[int, ...]
    bytes: bytes


class Stacks:
    """Stacks by id, from 1. ``copy`` is the tracer's, the other methods are of the thread that shows them."""

    def __init__(self) -> None:
        self._memory = ProcessMemory()
        self._registers = ptrace.Registers()
        self._last = 0
        self._maps: dict[int, tuple[bytes, tuple[procfs.Area, ...]]] = {}
        self._copies: deque[_Copy] = deque()
        self._unwound: OrderedDict[int, tuple[int, Sequence[int]]] = OrderedDict()
        self._epochs: dict[int, tuple[tuple[procfs.Area, ...], int]] = {}
        self._names: dict[tuple[int, int, bool], str] = {}
        self._unwinding: tuple[ProcessMap, Symbolizer, Unwinder] | None = None

    def copy(self, pid: int, tid: int) -> int:
        """Copy the stack of a stopped thread; returns its id, 0 if there is none to be had."""
        try:
            registers = self._registers.as_samples(tid)
            if self._registers.narrow:
                return 0
            areas = self._areas(pid)
        except OSError:
            return 0
        self._last += 1
        stack = self._memory.read(tid, registers[ptrace.SAMPLED_SP], _COPIED_BYTES)
        self._copies.append(_Copy(self._last, pid, areas, registers, stack))
        return self._last

    def _areas(self, pid: int) -> tuple[procfs.Area, ...]:
        """What a process has mapped now: read each time, as it may map files by calls that are not recorded."""
        text = procfs.maps_text(pid)
        known = self._maps.get(pid)
        if known is None or known[0] != text:
            areas = tuple(area for area in procfs.areas_of(text) if "x" in area.permissions)
            known = self._maps[pid] = (text, areas)
        return known[1]

    def forget(self, pid: int) -> None:
        """A process has ended, or runs another program."""
        self._maps.pop(pid, None)

    def unwind(self) -> None:
        """Unwind what has been copied since the last time."""
        copies = [self._copies.popleft() for _ in range(len(self._copies))]
        if not copies:
            return
        import numpy as np

        from insitu.symbols.user_stacks import UserStacks

        _, _, unwinder = self._opened()
        sizes = np.array([len(each.bytes) for each in copies], np.int64)
        epochs = [self._epoch(each) for each in copies]
        offsets, addresses = unwinder.unwind(
            UserStacks(
                np.array([each.registers for each in copies], np.uint64),
                ptrace.SAMPLED_MASK,
                np.frombuffer(b"".join(each.bytes for each in copies), np.uint8),
                offsets_of(sizes)[:-1],
                sizes,
                np.array(epochs, np.int32),
            )
        )
        bounds, found = offsets.tolist(), addresses.tolist()
        for index, each in enumerate(copies):
            self._unwound[each.stack] = (epochs[index], found[bounds[index] : bounds[index + 1]])
        while len(self._unwound) > _MOST_KEPT:
            self._unwound.popitem(last=False)

    def lines(self, stack: int) -> list[str]:
        """Returns ``/usr/lib/libc.so.6(write+0x10) [0xf8350]`` of each frame, leaf first: with the file's offset."""
        epoch, addresses = self._unwound.get(stack, (-1, ()))
        return [self._line(epoch, address, called=index > 0) for index, address in enumerate(addresses)]

    def _line(self, epoch: int, address: int, *, called: bool) -> str:
        key = (epoch, address, called)
        if key not in self._names:
            if len(self._names) >= _MOST_KEPT:
                self._names.clear()
            self._names[key] = self._named(*key)
        return self._names[key]

    def _named(self, epoch: int, address: int, called: bool) -> str:
        import numpy as np

        spaces, symbolizer, _ = self._opened()
        # A return address may be the first of the next function: the call lies before it.
        modules, offsets = spaces.find(epoch, np.array([address - called], np.uint64))
        if modules[0] < 0:
            return f"[{address:#x}]"
        module, offset = spaces.modules[int(modules[0])], int(offsets[0])
        found = symbolizer.function(module, offset, address - called)
        name = f"{found[0]}+{found[1] + called:#x}" if found else ""
        return f"{module.path}({name}) [{offset + called:#x}]"

    def _opened(self) -> tuple[ProcessMap, Symbolizer, Unwinder]:
        if self._unwinding is None:
            from insitu.symbols.process_map import ProcessMap
            from insitu.symbols.symbolizer import Symbolizer
            from insitu.symbols.unwind import Unwinder

            spaces, symbolizer = ProcessMap(), Symbolizer(inlines=False)
            unwinder = Unwinder(spaces, symbolizer.open_module, frame_pointers=True, max_depth=_MOST_DEPTH)
            self._unwinding = spaces, symbolizer, unwinder
        return self._unwinding

    def _epoch(self, copy: _Copy) -> int:
        known = self._epochs.get(copy.pid)
        if known is not None and known[0] is copy.areas:
            return known[1]
        spaces = self._opened()[0]
        ts_ns = copy.stack  # any order will do
        epoch = spaces.execed_with(copy.pid, ts_ns, copy.areas)
        self._epochs[copy.pid] = (copy.areas, epoch)
        if len(self._epochs) > _MOST_PROCESSES:
            oldest = next(iter(self._epochs))
            del self._epochs[oldest]
        return epoch
