"""The lines of the function_graph tracer's text, as rows of ``span``.

Without the option funcgraph-abstime the text has durations, but no times: then each CPU's calls follow each other
from 0 on.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from insitu.session.call_table import KERNEL_FUNCTION
from insitu.session.core_tables import SPAN
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import CORE_TEXT, KERNEL, Frame

__all__ = ["GraphLines"]

_ROWS: Final = 1 << 15
_LONGEST: Final = 1000  # characters of a line
_DEEPEST: Final = 4096

_LINE: Final = re.compile(
    r"\s*+(?:(?P<s>\d{1,10})\.(?P<us>\d{6})\s*+\|\s*+)?(?P<cpu>\d{1,5})\)\s*+"
    r"(?:(?P<comm>\S.{0,62}?)-(?P<tid>\d{1,10})\s*+\|\s*+)?(?:[\w.#]{4,6}\s*+\|\s*+)?(?P<call>[^|]*+\|.*)",
    re.ASCII,
)
_CALL: Final = re.compile(
    r"\s*+[+!#*@$]?\s*+(?:(?P<us>\d{1,12})(?:\.(?P<fraction>\d{1,3}))? us)?\s*\|\s*"
    r"(?:(?P<close>\}(?: /\* (?P<closed>\S+).*\*/)?)|/\* (?P<event>\w+): (?P<text>.*) \*/|/\*.*"
    r"|(?P<function>\S{1,200}?)(?: \[(?P<module>[\w-]+)\])?\((?P<args>.*)\)(?P<kind>;| \{)?.*)?",
    re.ASCII,
)
_SWITCH: Final = re.compile(
    r"\s*(?P<cpu>\d{1,5})\)\s+\S.*-\d+\s+=>\s+(?P<comm>\S.{0,62}?)-(?P<tid>\d{1,10})\s*", re.ASCII
)
_RULE: Final = re.compile(r"\s*-{20,}\s*|\s*\d{1,5}\)\s*(?:=+>|<=+) \|\s*", re.ASCII)


class _Row(NamedTuple):
    id: int
    ts_ns: int
    dur_ns: int | None
    utid: int
    cpu: int
    name: str
    parent: int | None
    depth: int
    self_ns: int | None
    stack: int


@dataclass
class _Open:
    id: int
    ts_ns: int
    name: str
    stack: int
    inside_ns: int = 0


@dataclass
class _Cpu:
    utid: int = 0
    now_ns: int = 0
    stacks: dict[int, list[_Open]] = field(default_factory=dict)  # by utid

    @property
    def stack(self) -> list[_Open]:
        return self.stacks.setdefault(self.utid, [])


class GraphLines:
    """Reads lines, and writes the calls that have returned."""

    def __init__(self, writer: SessionWriter, event: Callable[[str, tuple[int, int, int], str], None]) -> None:
        """``event`` takes events among the calls: their name, (time, utid, CPU), and text."""
        self._writer = writer
        self._event = event
        self._cpus: dict[int, _Cpu] = {}
        self._threads: dict[int, int] = {0: 0}
        self._nodes: dict[tuple[int, str], int] = {}
        self._rows: list[_Row] = []
        self._written = 0
        self._relative = False

    def read(self, line: str) -> bool:
        """Take in a line of the tracer's own text; whether it is one."""
        if len(line) > _LONGEST:
            return False
        if switch := _SWITCH.fullmatch(line):
            self._of(int(switch["cpu"])).utid = self._thread(int(switch["tid"]), switch["comm"])
            return True
        match = _LINE.fullmatch(line)
        if match is None or _RULE.fullmatch(line):
            return _RULE.fullmatch(line) is not None
        cpu = self._of(int(match["cpu"]))
        if match["tid"]:
            cpu.utid = self._thread(int(match["tid"]), match["comm"])
        if match["s"]:
            cpu.now_ns = int(match["s"]) * 1_000_000_000 + int(match["us"]) * 1000
        return self._call(int(match["cpu"]), cpu, match["call"], timed=bool(match["s"]))

    def event(self, ts_ns: int, utid: int, number: int, text: str) -> bool:
        """Take in a funcgraph_entry or funcgraph_exit of trace-cmd report; whether it could be read."""
        cpu = self._of(number)
        cpu.utid, cpu.now_ns = utid, ts_ns
        return self._call(number, cpu, text, timed=True)

    def _call(self, number: int, cpu: _Cpu, text: str, *, timed: bool) -> bool:
        call = _CALL.fullmatch(text)
        if call is None:
            return False
        self._relative |= not timed
        took = int(call["us"]) * 1000 + int((call["fraction"] or "").ljust(3, "0")) if call["us"] else None
        stack = cpu.stack
        if call["close"]:
            self._close(number, cpu, took, call["closed"] or "", timed=timed)
        elif call["event"]:
            self._event(call["event"], (cpu.now_ns, cpu.utid, number), call["text"])
        elif call["function"] and call["kind"] == " {":
            if len(stack) < _DEEPEST:
                stack.append(self._begun(cpu, cpu.now_ns, call["function"]))
        elif call["function"]:
            self._add(number, cpu, self._begun(cpu, cpu.now_ns, call["function"]), took)
            cpu.now_ns += 0 if timed else took or 0
        return True

    def _close(self, number: int, cpu: _Cpu, took: int | None, name: str, *, timed: bool) -> None:
        if cpu.stack:
            call = cpu.stack.pop()
        elif name and took is not None:  # it was entered before the trace began
            call = self._begun(cpu, max(cpu.now_ns - took, 0), name)
        else:
            return
        if took is None and timed:
            took = cpu.now_ns - call.ts_ns
        self._add(number, cpu, call, took)
        if not timed:
            cpu.now_ns = max(cpu.now_ns, call.ts_ns + (took or 0))

    def _add(self, number: int, cpu: _Cpu, call: _Open, took: int | None) -> None:
        parent = cpu.stack[-1] if cpu.stack else None
        if parent is not None:
            parent.inside_ns += took or 0
        self_ns = None if took is None else max(took - call.inside_ns, 0)
        outer = parent.id if parent is not None else None
        self._rows.append(
            _Row(call.id, call.ts_ns, took, cpu.utid, number, call.name, outer, len(cpu.stack), self_ns, call.stack)
        )
        if len(self._rows) >= _ROWS:
            self._flush()

    def finish(self) -> int:
        """Write the rest, open calls too; the number of calls."""
        for number, cpu in self._cpus.items():
            for utid, stack in cpu.stacks.items():
                cpu.utid = utid
                while stack:
                    self._add(number, cpu, stack.pop(), None)
        self._flush()
        if self._relative:
            self._writer.notes.append(
                "times are sums of durations: the text has none (recorded without the option funcgraph-abstime)"
            )
        return self._written

    def _flush(self) -> None:
        if not self._rows:
            return
        self._rows.sort(key=lambda row: (row.ts_ns, row.depth))
        columns = dict(zip(_Row._fields, zip(*self._rows, strict=True), strict=True))
        self._writer.append(SPAN, {**columns, "category": [KERNEL_FUNCTION] * len(self._rows)})
        self._written += len(self._rows)
        self._rows.clear()

    def _of(self, number: int) -> _Cpu:
        return self._cpus.setdefault(number, _Cpu())

    def _begun(self, cpu: _Cpu, ts_ns: int, name: str) -> _Open:
        """A call that begins now, with its call path's stack."""
        outer = cpu.stack[-1].stack if cpu.stack else 0
        node = self._nodes.get((outer, name))
        if node is None:
            frame = self._writer.frames.number([Frame(name, CORE_TEXT, kind=KERNEL)])
            chain, below = np.array([0, 1]), np.array([outer], np.int32)
            node = int(self._writer.stacks.add(chain, np.array(frame, np.int32), below)[0])
            self._nodes[outer, name] = node
        return _Open(int(self._writer.span_ids(1)[0]), ts_ns, name, node)

    def _thread(self, tid: int, comm: str) -> int:
        utid = self._threads.get(tid)
        if utid is None:
            who = self._writer.processes
            upid = who.process_of(tid)
            utid = self._threads[tid] = who.thread(tid, upid, name=comm) if tid < 1 << 31 else 0
        return utid
