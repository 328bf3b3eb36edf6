"""Calls as lines of text or JSON: callers above what they call, each with its duration and self time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from insitu.terminal_text import printable
from insitu.views.quantity import duration

if TYPE_CHECKING:
    from insitu.convert.call_spans import Calls

__all__ = ["HEAD", "CallLine", "call_json", "call_text", "lines_of_calls"]

HEAD: Final = f"# {'duration':>12}  {'self':>10}  cpu  {'thread':<23}  function"
# As ftrace marks durations, in nanoseconds.
_MARKS: Final = ((10**9, "$"), (10**8, "@"), (10**7, "*"), (10**6, "#"), (10**5, "!"), (10**4, "+"))
_MOST_INDENT: Final = 64


class CallLine(NamedTuple):
    """What a line has of a call; times in nanoseconds, -1 where it has not returned."""

    ts_ns: int
    dur_ns: int
    self_ns: int
    cpu: int
    tid: int
    thread: str
    depth: int
    function: str
    interrupt: bool


def call_text(call: CallLine) -> str:
    """The line of a call, without its end."""
    mark = next((sign for least, sign in _MARKS if call.dur_ns >= least), " ")
    took, own = (duration(each) if each >= 0 else "-" for each in (call.dur_ns, call.self_ns))
    thread = printable(f"{call.thread}-{call.tid}")
    indent = "  " * min(call.depth, _MOST_INDENT)
    notes = " (interrupt)" * call.interrupt + " (has not returned)" * (call.dur_ns < 0)
    return f"{mark} {took:>12}  {own:>10}  {call.cpu:>3}  {thread:<23}  {indent}{printable(call.function)}{notes}"


def call_json(call: CallLine) -> str:
    """The call as one JSON object."""
    fields: dict[str, Any] = call._asdict()
    fields |= {name: None for name in ("dur_ns", "self_ns") if fields[name] < 0}
    return json.dumps(fields)


def lines_of_calls(calls: Calls, functions: Sequence[str], thread: Callable[[int], str]) -> Iterator[CallLine]:
    """Every call, those of one outermost caller together, these in the order of their starts.

    ``thread`` gives the name of a thread id; negative ids are those of idle tasks.
    """
    roots = np.flatnonzero(calls.parent < 0)
    ends = np.append(roots[1:], len(calls.parent))
    order = np.argsort(calls.ts_ns[roots], kind="stable")
    rows = np.concatenate([np.arange(roots[at], ends[at]) for at in order.tolist()]) if len(roots) else roots
    cut_in = calls.interrupt & ~calls.interrupt[calls.parent] | calls.interrupt & (calls.parent < 0)
    columns = (calls.ts_ns, calls.dur_ns, calls.self_ns, calls.cpu, calls.thread, calls.depth, calls.func, cut_in)
    for ts_ns, dur_ns, self_ns, cpu, tid, depth, func, interrupt in zip(
        *(column[rows].tolist() for column in columns), strict=True
    ):
        yield CallLine(
            ts_ns, dur_ns, self_ns, cpu, max(tid, 0), thread(max(tid, 0)), depth, functions[func], interrupt
        )
