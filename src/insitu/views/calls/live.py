"""Calls of kernel functions as they are recorded: lines of text or JSON, or all of them for a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from insitu.convert.call_spans import CallCost, CallJoiner, Calls
from insitu.convert.event_schema import EventKind
from insitu.convert.trace_calls import GraphDecoder
from insitu.convert.trace_events import event_columns
from insitu.convert.trace_pages import PageLayout, TraceRecords, records_of
from insitu.convert.trace_stacks import KERNEL_STACK, stack_addresses
from insitu.session.call_table import INTERRUPT, KERNEL_FUNCTION, CallTable, with_totals
from insitu.session.distinct import groups
from insitu.symbols.frame import Frame
from insitu.terminal_text import printable
from insitu.views.calls.lines import HEAD, call_json, call_text, lines_of_calls
from insitu.views.held_lines import HeldLines

__all__ = ["CallCollector", "CallPrinter", "FunctionPrinter", "PageReader"]

Pages = list[tuple[int, bytes]]
_MOST_OWN: Final = 4  # frames of a stack down to the function itself: ftrace's trampoline


class PageReader(NamedTuple):
    """What pages are read by: their layout, the events by number, and what gives the functions of addresses."""

    layout: PageLayout
    kinds: Mapping[int, EventKind]
    frames: Callable[[NDArray[np.uint64]], list[Frame]]


class CallCollector:
    """Keeps the calls of the function_graph tracer."""

    def __init__(self, pages: PageReader) -> None:
        self._layout = pages.layout
        self._decoder = GraphDecoder({number: kind.format for number, kind in pages.kinds.items()}, pages.frames)
        self._joiner = CallJoiner(CallCost())
        self._calls: list[Calls] = []

    @property
    def functions(self) -> list[str]:
        """The names of functions by number."""
        return [frame.function for frame in self._decoder.functions]

    def charge(self, inside_ns: int, outside_ns: int) -> None:
        """Take this off self times for each call: what tracing it costs, see CallCost."""
        self._joiner.cost = CallCost(inside_ns, outside_ns)

    def add(self, pages: Pages, until_ns: int) -> None:
        """Take (CPU, page) pairs, complete up to a time (CLOCK_MONOTONIC, ns). Raises BrokenPipeError."""
        if pages:
            found, lost_ns = self._decoder.decode(records_of(pages, self._layout))
            self._take(self._joiner.add(found, lost_ns, until_ns, self._decoder.handlers))

    def finish(self) -> None:
        """Take the calls that have not returned."""
        self._take(self._joiner.finish(self._decoder.handlers))

    def _take(self, calls: Calls) -> None:
        self._calls.append(calls)

    def table(self) -> CallTable:
        """All calls."""
        parts, functions = self._calls, self.functions
        base = np.cumsum([0, *(len(part.ts_ns) for part in parts)]).tolist()
        parents = [np.where(part.parent < 0, -1, part.parent + at) for part, at in zip(parts, base, strict=False)]

        def joined(name: str, dtype: Any = np.int64) -> NDArray[Any]:
            return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])

        own = joined("self_ns")
        return with_totals(
            CallTable(
                ts_ns=joined("ts_ns"),
                dur_ns=joined("dur_ns"),
                self_ns=own,
                total_ns=own,
                utid=joined("thread", np.int32),
                cpu=joined("cpu", np.int32),
                function=joined("func", np.int32) + np.int32(len(functions)) * joined("interrupt", np.bool_),
                parent=np.concatenate([np.zeros(0, np.int64), *parents]),
                depth=joined("depth", np.int32),
                functions=[(name, kind) for kind in (KERNEL_FUNCTION, INTERRUPT) for name in functions],
            )
        )


class CallPrinter(CallCollector):
    """Prints calls: callers above what they call, when the outermost has returned."""

    def __init__(
        self,
        pages: PageReader,
        out: TextIO,
        thread: Callable[[int], str],
        *,
        as_json: bool = False,
    ) -> None:
        """``thread`` gives the names of threads."""
        super().__init__(pages)
        self._out = out
        self._thread = thread
        self._form = call_json if as_json else call_text
        self._head = "" if as_json else f"{HEAD}\n"

    def _take(self, calls: Calls) -> None:
        lines = lines_of_calls(calls, self.functions, self._thread)
        self._out.write(self._head)
        self._head = ""
        self._out.writelines(f"{self._form(line)}\n" for line in lines)
        self._out.flush()


class FunctionPrinter:
    """Prints what the function tracer records: the function, its caller or its stack."""

    def __init__(
        self,
        pages: PageReader,
        out: TextIO,
        thread: Callable[[int], str],
        *,
        as_json: bool = False,
    ) -> None:
        """``thread`` gives the names of threads."""
        self._layout, self._kinds, self._frames = pages
        self._thread = thread
        self._form = json.dumps if as_json else _text
        self._held = HeldLines(out)
        self._seen = 0
        self._names: dict[int, str] = {}

    def add(self, pages: Pages, until_ns: int) -> None:
        """Take (CPU, page) pairs, complete up to a time, and print what happened until then."""
        if pages:
            records = records_of(pages, self._layout)
            calls = self._calls(records)
            self._held.hold((call["ts_ns"], self._seen + row, self._form(call)) for row, call in calls.items())
            self._seen += len(records)
        self._held.write(until_ns)

    def finish(self) -> None:
        """Print the rest."""
        self.add([], 2**63 - 1)

    def _calls(self, records: TraceRecords) -> dict[int, dict[str, Any]]:
        """The calls by the rows of their records."""
        made: dict[int, dict[str, Any]] = {}
        stacks: list[tuple[int, list[int]]] = []
        for number, rows in groups(records.event):
            kind = self._kinds.get(number)
            if kind is None:
                continue
            if kind.label == KERNEL_STACK:
                offset, address = stack_addresses(records, rows, kind.format, is_kernel=True)
                for row, low, high in zip(rows.tolist(), offset[:-1].tolist(), offset[1:].tolist(), strict=True):
                    stacks.append((row, address[low:high].tolist()))
                continue
            columns = event_columns(records, rows, kind.format)
            called = [columns[name].tolist() for name in ("common_pid", "ip", "parent_ip")]
            for row, ts_ns, cpu, tid, *addresses in zip(
                rows.tolist(), records.ts_ns[rows].tolist(), records.cpu[rows].tolist(), *called, strict=True
            ):
                function, caller = self._named(addresses)
                made[row] = {"ts_ns": ts_ns, "cpu": cpu, "tid": tid, "thread": self._thread(tid)}
                made[row] |= {"function": function, "caller": caller}
        for row, addresses in stacks:
            if row - 1 in made:
                names, function = self._named(addresses), made[row - 1]["function"]
                own = names.index(function) + 1 if function in names[:_MOST_OWN] else 0
                made[row - 1]["stack"] = names[own:]
        return made

    def _named(self, addresses: list[int]) -> list[str]:
        new = [each for each in dict.fromkeys(addresses) if each not in self._names]
        if new:
            found = self._frames(np.array(new, np.uint64))
            self._names |= {each: frame.function for each, frame in zip(new, found, strict=True)}
        return [self._names[each] for each in addresses]


def _text(call: Mapping[str, Any]) -> str:
    thread = printable(f"{call['thread']}-{call['tid']}")
    line = f"{call['ts_ns'] / 1e9:>16.6f}  {call['cpu']:>3}  {thread:<23}  {printable(call['function'])}"
    if "stack" not in call:
        return f"{line} <- {printable(call['caller'])}"
    return "\n".join([line, *(f"{'':>49}{printable(name)}" for name in call["stack"])])
