"""Records of ftrace's function_graph tracer as calls in the ``span`` table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.call_rows import write_calls
from insitu.convert.call_spans import CallCost, CallJoiner, CallRecords, Calls
from insitu.convert.sources import RawSource
from insitu.convert.trace_pages import TASK, TraceRecords, field_values, values_of
from insitu.kernel.tracefs import EventFormat
from insitu.session.call_table import INTERRUPT, KERNEL_FUNCTION
from insitu.session.coded_texts import CodedTexts
from insitu.session.core_tables import SPAN
from insitu.session.distinct import groups
from insitu.session.interning import GrowingIndex
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

__all__ = ["ENTRIES", "EXITS", "CallSpans", "GraphDecoder", "call_cost", "is_handler"]

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

ENTRIES: Final = ("ftrace:funcgraph_entry", "ftrace:funcgraph_retaddr_entry")
EXITS: Final = ("ftrace:funcgraph_exit",)

# The first functions of an interrupt that can be traced (arch/x86/kernel: irq.c, apic/, nmi.c; arch/arm64).
_HANDLER: Final = re.compile(
    r"(asm_|__)?sysvec_\w+|(asm_|__)?common_interrupt|smp_\w+_interrupt|do_IRQ|irq_(enter|exit)(_rcu)?|handle_irq"
    r"|default_do_nmi|do_nmi|nmi_(handle|enter|exit)|gic_handle_irq|el[01]t?_(32_|64_)?irq\w*|do_interrupt_handler"
)


def is_handler(function: str) -> bool:
    """Whether a kernel function is entered by interrupts, or around their handlers."""
    return _HANDLER.fullmatch(function) is not None


def call_cost(source: RawSource) -> CallCost:
    """What tracing a call costs, as the source's options in the manifest note it; nothing where they do not."""
    options = [each.get("options") for each in source.manifest.sources if each.get("id") == source.id]
    found = options[0].get("call_cost_ns") if options and isinstance(options[0], Mapping) else None
    if isinstance(found, list) and [each for each in found if isinstance(each, int) and 0 <= each < 10**9] == found:
        return CallCost(*found[:2])
    return CallCost()


class GraphDecoder:
    """Turns records of the function_graph tracer into ``CallRecords``; functions are numbered as they appear.

    Fields are read as this kernel's formats give them: they differ between kernels.
    """

    def __init__(
        self, formats: Mapping[int, EventFormat], names: Callable[[NDArray[np.uint64]], list[Frame]]
    ) -> None:
        """``formats`` by number; ``names`` gives the functions of addresses."""
        self._entries = {number for number, shape in formats.items() if shape.name in ENTRIES}
        self._exits = {number for number, shape in formats.items() if shape.name in EXITS}
        self._formats = {number: formats[number] for number in (*self._entries, *self._exits)}
        self._names = names
        self._index = GrowingIndex()
        self.functions: list[Frame] = []
        self.handlers: Bools = np.zeros(0, np.bool_)

    def __bool__(self) -> bool:
        return bool(self._exits)

    def decode(self, records: TraceRecords) -> tuple[CallRecords, I64]:
        """Entries and exits in the order of the rings, and the times before which records were lost."""
        kinds = np.array(sorted(self._formats), np.int32)
        rows = np.flatnonzero(np.isin(records.event, kinds))
        func, depth, dur_ns = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int32), np.full(len(rows), -1)
        event = records.event[rows]
        for number, at in groups(event):
            fields = {field.name: field for field in self._formats[number].fields}
            has_times = number in self._exits and {"calltime", "rettime"} <= fields.keys()
            names = ("func", "depth", *(("rettime", "calltime") if has_times else ()))
            func[at], depth[at], *times = values_of(records, rows[at], [fields[name] for name in names])
            if times:
                ends, starts = times
                dur_ns[at] = np.maximum(ends.astype(np.int64) - starts.astype(np.int64), 0)
        tid, cpu = np.asarray(field_values(records, rows, TASK), np.int32), records.cpu[rows]
        found = CallRecords(
            records.ts_ns[rows],
            np.where(tid > 0, tid, -1 - cpu).astype(np.int32),  # each CPU has an idle task of its own
            cpu,
            np.isin(event, sorted(self._exits)),
            self._numbered(func),
            depth,
            dur_ns,
        )
        first = np.searchsorted(records.page, records.missed)
        return found, records.ts_ns[first[first < len(records)]]

    def _numbered(self, address: U64) -> I32:
        ids, new = self._index.number(address)
        if len(new):
            made = self._names(address[new])
            self.functions += made
            self.handlers = np.append(self.handlers, [is_handler(each.function) for each in made])
        return ids.astype(np.int32)


class CallSpans:
    """Writes the calls of a recording to the ``span`` table."""

    def __init__(
        self, formats: Mapping[int, EventFormat], writer: SessionWriter, addresses: Addresses, cost: CallCost
    ) -> None:
        """``formats`` are those of the recording's events, by number."""
        self._writer = writer
        self._decoder = GraphDecoder(formats, lambda found: [each[-1] for each in addresses.symbols.kernel(found)])
        self._joiner = CallJoiner(cost)
        self._dropped = 0
        self.written = 0
        """So many calls."""
        if self._decoder:
            writer.append(SPAN, {})

    def add(self, records: TraceRecords) -> None:
        """Take a window of records, and write the calls that are complete. Raises OSError when the disk is full."""
        if not self._decoder or not len(records):
            return
        found, lost_ns = self._decoder.decode(records)
        if len(found.ts_ns):
            self._write(self._joiner.add(found, lost_ns, records.until_ns - 1, self._decoder.handlers))

    def finish(self) -> None:
        """Write the calls that have not returned."""
        self._write(self._joiner.finish(self._decoder.handlers))
        self._writer.lost("function calls: records without a start", self._dropped)

    def _write(self, calls: Calls) -> None:
        self.written += len(calls.ts_ns)
        self._dropped += calls.dropped
        if not len(calls.ts_ns):
            return
        categories = CodedTexts(calls.interrupt, (KERNEL_FUNCTION, INTERRUPT))
        write_calls(self._writer, calls, self._decoder.functions, categories)
