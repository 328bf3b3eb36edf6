"""What a BPF program counts between two ticks: system calls, waits, block I/O, and where CPU time and waits are.

All counting is done in the kernel, in maps that are emptied once a tick; no event is sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.kernel.bpf_map import possible_cpus
from insitu.probe.aggregations import Histogram
from insitu.probe.output.map_text import percentile
from insitu.probe.runtime.map_content import map_content
from insitu.probe.types import Stack, Tuple
from insitu.record.sources.generated import GeneratedSource
from insitu.record.top.tick import Sample, Waits

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.probe.runtime.symbols import Symbols
    from insitu.record.source import Target

__all__ = ["HERTZ", "Counts", "KernelCounts"]

HERTZ: Final = 49
"""Samples a second on each CPU; not in step with timers of 10 or 100 Hz."""
_MOST_STACKS: Final = 8192  # that are kept by id
_HISTOGRAM: Final = Histogram(bits=4)

# @ready and @off have the threads that wait for a CPU, and for anything else. A wait that is longer than the tick
# counts from the tick's begin (@began), so that no thread waits longer than the tick takes. Stacks of waits are
# taken of the one process that is looked at (@looked): to walk a stack costs more than all the rest.
_SCRIPT: Final = """
config = { max_map_keys = 32768; print_maps_on_exit = false; missing_probes = warn; }
let @io_took = percpuhash(1);

BEGIN {
    @target[(uint32)0xffffffff] = (uint64)1; @looked = (uint64)0; @began = nsecs;
    @ready[(uint32)0xffffffff] = (uint64)0; @off[(uint32)0xffffffff] = (uint64)0;
}
tracepoint:sched:sched_process_fork %(of_target)s { @target[(uint32)args.child_pid] = (uint64)1; }
tracepoint:sched:sched_process_exit %(of_target)s {
    // The main thread may end before others.
    if (tid != pid) { delete(@target[tid]); }
    if (curtask->signal->live.counter == 0) { delete(@target[pid]); }
}
rawtracepoint:sys_enter %(mine)s { @calls[pid] = count(); }
profile:hz:%(hertz)d /pid%(and_mine)s/ { @on_cpu[pid, tid, kstack, ustack] = count(); }
rawtracepoint:sched_wakeup {
    if (%(woken)s) { @ready[(uint32)args.p.pid] = nsecs; }
}
rawtracepoint:sched_wakeup_new {
    if (%(woken)s) { @ready[(uint32)args.p.pid] = nsecs; }
}
rawtracepoint:sched_switch {
    $now = nsecs;
    $prev = (uint32)args.prev.pid;
    if (%(leaves)s) {
        if (args.preempt || args.prev_state == 0) {
            @ready[$prev] = $now;
        } else if (!(args.prev_state & 0xb0)) {
            @off[$prev] = $now;
            if (pid == @looked) { @where[$prev] = (kstack, ustack); }
        }
    }
    $next = (uint32)args.next.pid;
    if (%(returns)s) {
        $process = (uint32)args.next.tgid;
        $ready = @ready[$next];
        $off = @off[$next];
        if ($ready) {
            @waited[$process] = sum($now - ($ready > @began ? $ready : @began));
            delete(@ready[$next]);
        }
        if ($off) {
            $from = $off > @began ? $off : @began;
            $until = $ready ? $ready : $now;
            if ($until > $from) {
                @away[$process] = sum($until - $from);
                if ($process == @looked) {
                    $stacks = @where[$next];
                    @off_cpu[$process, $next, $stacks.0, $stacks.1] = sum($until - $from);
                    delete(@where[$next]);
                }
            }
            delete(@off[$next]);
        }
    }
}
tracepoint:block:block_rq_issue %(mine)s { @issued[args.dev, args.sector] = nsecs; }
tracepoint:block:block_rq_complete {
    $issued = @issued[args.dev, args.sector];
    if ($issued) {
        @io_took[(uint32)0] = hist(nsecs - $issued, 4);
        delete(@issued[args.dev, args.sector]);
    }
}
"""


class Counts(NamedTuple):
    """What was counted since the last tick: calls and nanoseconds by process, samples and nanoseconds by stack."""

    calls: Mapping[int, int]
    waited_ns: Mapping[int, int]
    away_ns: Mapping[int, int]
    on_cpu: Mapping[Sample, int]
    off_cpu: Mapping[Sample, int]
    block: Waits


class KernelCounts(GeneratedSource):
    """A script that counts. Use: open(), start(), take() once a tick, close()."""

    id = "top"

    def __init__(self) -> None:
        super().__init__()
        self._pids: tuple[int, ...] = ()
        self._stacks: dict[tuple[str, int], tuple[int, ...]] = {}

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        whole = target.whole_system
        text = _SCRIPT % {
            "hertz": HERTZ,
            "of_target": "/0/" if whole else "/@target[pid]/",
            "mine": "" if whole else "/@target[pid]/",
            "and_mine": "" if whole else " && @target[pid]",
            "woken": "args.p.tgid" if whole else "@target[(uint32)args.p.tgid]",
            "leaves": "$prev" if whole else "@target[pid]",
            "returns": "$next" if whole else "@target[(uint32)args.next.tgid]",
        }
        self._pids = target.roots
        self.open_script(text, target, "no BPF")

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach all probes; from now on the target is counted."""
        super().start(None, start_ns)
        self.set_target(self._pids)

    def look_at(self, pid: int) -> None:
        """Take stacks of this process's waits from now on; 0: of none."""
        self._set("@looked", pid)

    def take(self, now_ns: int) -> Counts:
        """Returns what was counted since the last call; ``now_ns`` is when the next tick begins (CLOCK_BOOTTIME)."""
        self._set("@began", now_ns)
        cells: list[int] = next((value for _, value in self._taken("@io_took")), [])
        on_cpu, off_cpu = self._samples("@on_cpu"), self._samples("@off_cpu")
        if len(self._stacks) > _MOST_STACKS:
            self._forget_stacks()
        return Counts(
            dict(self._by_process("@calls")),
            dict(self._by_process("@waited")),
            dict(self._by_process("@away")),
            on_cpu,
            off_cpu,
            _waits(cells),
        )

    def members(self) -> set[int]:
        """Returns the processes that are counted, where that is not the whole machine."""
        return {int.from_bytes(key, "little") for key, _ in self.map("@target").items()}

    @property
    def symbols(self) -> Symbols:
        """What names addresses, also of processes that have ended."""
        return self.runtime.symbols

    def _set(self, name: str, value: int) -> None:
        self.map(name).update(bytes(4), struct.pack("<QQ", value, 1))

    def _taken(self, name: str) -> Iterable[tuple[tuple[Any, ...], Any]]:
        layout = self.runtime.compiled.layout
        return map_content(layout.maps[layout.number(name)], self.map(name).take(), possible_cpus()).rows

    def _by_process(self, name: str) -> Iterable[tuple[int, int]]:
        return ((key[0] if isinstance(key, tuple) else key, value) for key, value in self._taken(name))

    def _samples(self, name: str) -> dict[Sample, int]:
        layout = self.runtime.compiled.layout
        kind = layout.maps[layout.number(name)].key
        assert isinstance(kind, Tuple)
        kernel_map, user_map = (each.map for each in kind.elements if isinstance(each, Stack))
        found: dict[Sample, int] = {}
        for (pid, tid, (kernel, _), (user, _)), value in self._taken(name):
            sample = Sample(pid, tid, self._stack(kernel_map, kernel), self._stack(user_map, user))
            found[sample] = found.get(sample, 0) + value
        return found

    def _stack(self, name: str, number: int) -> tuple[int, ...]:
        """The addresses of a stack, innermost first; none for what the kernel could not walk."""
        if number < 0:
            return ()
        known = self._stacks.get((name, number))
        if known is None:
            content = self.map(name).lookup(struct.pack("<I", number)) or b""
            known = tuple(takewhile(bool, (address for (address,) in struct.iter_unpack("<Q", content))))
            self._stacks[name, number] = known
        return known

    def _forget_stacks(self) -> None:
        """Make room for new stacks: the kernel keeps the first that comes to each place in a map of them."""
        for name, number in self._stacks:
            self.map(name).delete(struct.pack("<I", number))
        self._stacks.clear()


def _waits(cells: list[int]) -> Waits:
    return Waits(sum(cells), *(percentile(_HISTOGRAM, cells, percent) for percent in (50, 99)))
