"""Calls of user functions as lines: nested, with durations and self times, as they end."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from insitu.convert.user_frames import ONE_STACK
from insitu.symbols.prototypes import BLOCKS, TEXTS, Prototype, Recorded, call_text, result_text
from insitu.terminal_text import printable
from insitu.views import quantity

__all__ = ["UserCallLines"]

_WORDS: Final = 6
_MOST_INDENT: Final = 64  # levels


class _Open:
    """A call that has not ended."""

    __slots__ = ("children_ns", "function", "late", "printed", "put", "result", "sp", "ts_ns", "words")

    def __init__(self, function: int, sp: int, ts_ns: int, words: list[Any]) -> None:
        self.function, self.sp, self.ts_ns, self.words = function, sp, ts_ns, words
        self.children_ns, self.printed = 0, False
        self.late: bytes | None = None
        self.put: bytes | None = None
        self.result: int | None = None


class UserCallLines:
    """Prints a call that calls nothing on one line when it ends, others when their first callee begins and when they
    end."""

    def __init__(
        self,
        functions: Sequence[tuple[str, Prototype | None]],
        write: Callable[[str], object],
        *,
        depth: int = 0,
    ) -> None:
        """``depth`` is the most that is shown; 0: all."""
        self._names = [printable(name) for name, _ in functions]
        self._prototypes = [prototype for _, prototype in functions]
        self._write = write
        self._depth = depth
        self._open: dict[int, list[_Open]] = {}
        self.calls = 0
        """How many have begun."""

    def begin(self) -> None:
        """Write the head of the table."""
        self._write(f"#  {'duration':>10}  {'self':>10}  {'thread':>7}  function\n")

    def add(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take decoded records by label."""
        records = (_records(label, columns) for label, columns in tables.items())
        for record in heapq.merge(*records, key=operator.itemgetter(0)):
            ts_ns, tid, label, *values = record
            if label == "ended":
                self._end_all(tid, ts_ns)
            elif label == "enter":
                self._enter(tid, ts_ns, values)
            else:
                self._exit(tid, ts_ns, values)

    def finish(self, end_ns: int) -> None:
        """End what is open."""
        for tid in list(self._open):
            self._end_all(tid, end_ns)

    def _enter(self, tid: int, ts_ns: int, values: Sequence[Any]) -> None:
        self.calls += 1
        function, sp, tail, *words = values
        stack = self._open.setdefault(tid, [])
        self._unwind(tid, ts_ns, sp, keeps_equal=bool(tail))
        if stack and not stack[-1].printed:
            self._begin(tid, stack)
        stack.append(_Open(function, sp, ts_ns, words))

    def _exit(self, tid: int, ts_ns: int, values: Sequence[Any]) -> None:
        sp, seen, value, more, text, late, put, *blocks = values
        stack = self._open.get(tid, [])
        self._unwind(tid, ts_ns, sp, keeps_equal=True)
        at = next((at for at in reversed(range(len(stack))) if stack[at].sp == sp), -1)
        if at >= 0:
            call = stack[at]
            call.late, call.put, call.result = late, put, value
            prototype = self._prototypes[call.function]
            found = result_text(prototype, Recorded((value, more), (text,), blocks)) if prototype and seen else ""
            self._end(tid, ts_ns, f" = {found}" if found else "", at)

    def _unwind(self, tid: int, ts_ns: int, sp: int, *, keeps_equal: bool) -> None:
        """End the calls whose frames the stack pointer has left: by an exception or longjmp()."""
        stack = self._open.get(tid, [])
        while stack and (0 < sp - stack[-1].sp < ONE_STACK or (stack[-1].sp == sp and not keeps_equal)):
            self._end(tid, ts_ns, " (unwound)")

    def _end_all(self, tid: int, ts_ns: int) -> None:
        while self._open.get(tid):
            self._end(tid, ts_ns, " (did not return)")
        self._open.pop(tid, None)

    def _begin(self, tid: int, stack: Sequence[_Open]) -> None:
        call = stack[-1]
        call.printed = True
        self._line(tid, len(stack) - 1, f"{self._text(call)} {{", "", "")

    def _end(self, tid: int, ts_ns: int, result: str, at: int = -1) -> None:
        """End a call, the innermost by default: others only where threads have several stacks."""
        stack = self._open[tid]
        call = stack.pop(at)
        at = len(stack) if at < 0 else at
        duration_ns = ts_ns - call.ts_ns
        if at:
            stack[at - 1].children_ns += duration_ns
        own = quantity.duration(max(0, duration_ns - call.children_ns))
        name = self._names[call.function]
        text = f"}}{result}  /* {name} */" if call.printed else f"{self._text(call)}{result}"
        self._line(tid, at, text, quantity.duration(duration_ns), own)

    def _text(self, call: _Open) -> str:
        prototype = self._prototypes[call.function]
        if prototype is None:
            return f"{self._names[call.function]}(...)"
        words, texts = call.words[:_WORDS], call.words[_WORDS : _WORDS + TEXTS]
        recorded = Recorded(words, texts, call.words[_WORDS + TEXTS :], call.late, call.put, call.result)
        return f"{self._names[call.function]}({call_text(prototype, recorded)})"

    def _line(self, tid: int, level: int, text: str, duration: str, own: str) -> None:
        if not self._depth or level < self._depth:
            indent = "  " * min(level, _MOST_INDENT)
            self._write(f"   {duration:>10}  {own:>10}  {tid:>7}  {indent}{text}\n")


def _records(label: str, columns: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Records of one label in the order of time: time, thread, what it is, and its values."""
    kind, _, more = label.partition("_")
    blocks = [f"b{n}" for n in range(BLOCKS)] if more == "deep" else []
    names = {
        "enter": ["f", "sp", "tail", *(f"a{n}" for n in range(_WORDS)), *(["s0", "s1"] if more else []), *blocks],
        "exit": ["sp", "seen", "value", "more", *(["text", "s0", "put"] if more else []), *blocks[:-1]],
        "ended": [],
    }[kind]
    values = [_plain(columns[name]) for name in names]
    if kind == "exit" and not more:
        values += [[None] * len(columns["tid"])] * 3
    rows = zip(columns["ts_ns"].tolist(), columns["tid"].tolist(), [kind] * len(columns["tid"]), *values, strict=True)
    return iter(sorted(rows, key=operator.itemgetter(0)))


def _plain(column: Any) -> list[Any]:
    """A column as Python's own numbers and texts: numpy's wrap around below zero."""
    return list(column.tolist() if hasattr(column, "tolist") else column.to_list())
