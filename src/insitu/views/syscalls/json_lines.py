"""System calls as JSON: one object per line, ASCII only; its "type" says what the others are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from insitu.syscalls.call import (
    Call,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Signal,
    Stopped,
    path_at,
)
from insitu.syscalls.decode import Decoder, call_name, signature_of, signed_argument
from insitu.syscalls.facts import facts_of
from insitu.syscalls.filters.call_filter import Known
from insitu.syscalls.pairing import Pairing
from insitu.syscalls.selection import Selection
from insitu.valid_text import json_line
from insitu.views.syscalls.signals import code_name

__all__ = ["JsonLines"]


class JsonLines:
    """Prints events as JSON. ``write`` gets whole lines. Calls come in the order in which they return."""

    def __init__(
        self,
        decoder: Decoder,
        write: Callable[[str], object],
        *,
        selection: Selection | None = None,
        signals: frozenset[int] | None = None,
        realtime_offset_ns: int = 0,
        stack_lines: Callable[[int], Sequence[str]] | None = None,
        processes: Known | None = None,
    ) -> None:
        """``processes``: of whose calls the name of the process is printed, too."""
        self._processes = processes
        self._decoder = decoder
        self._write = write
        self._selection = selection or Selection()
        self._signals = signals
        self._offset_ns = realtime_offset_ns
        self._stack_lines = stack_lines
        self._pairing = Pairing()
        self._abi = "x86_64"

    def deliver(self, events: Iterable[Event]) -> None:
        """Print events."""
        text = []
        for event in events:
            self._selection.observe(event)
            if self._processes is not None:
                self._processes.observe(event)
            if isinstance(event, Enter) and not self._selection.entry(event):
                continue
            call = self._pairing.feed(event)
            if call is not None and self._processes is not None:
                self._processes.returned(call)
            if call is not None and (
                self._selection.returned(call) if call.exit is not None else self._selection.unfinished(call)
            ):
                text.append(self._line(self._call(call)))
            if not isinstance(event, Enter | Exit):
                found = self._other(event)
                if found is not None:
                    text.append(self._line(found))
        if text:
            self._write("".join(text))

    def finish(self) -> None:
        """Print the calls that have not returned when recording ended."""
        rest = [call for call in self._pairing.rest() if self._selection.unfinished(call)]
        if rest:
            self._write("".join(self._line(self._call(call)) for call in rest))

    def _line(self, values: dict[str, Any]) -> str:
        return json_line(values) + "\n"

    def _base(self, type_: str, ts_ns: int, pid: int, tid: int) -> dict[str, Any]:
        return {"type": type_, "ts_ns": ts_ns, "unix_ns": ts_ns + self._offset_ns, "pid": pid, "tid": tid}

    def _call(self, call: Call) -> dict[str, Any]:
        enter, exit_ = call.enter, call.exit
        self._abi = enter.abi
        pieces = self._decoder.arguments(call)
        name = call_name(enter.abi, enter.nr)
        facts = facts_of(enter.abi)
        known = facts.calls.get(enter.nr)
        names = [each for _, each in known.parameters] if known else []
        kinds = [each.kind for each in signature_of(enter.abi, enter.nr).parameters]
        values = []
        for at, piece in enumerate(pieces):
            one: dict[str, Any] = {"name": names[at] if at < len(names) else f"arg{at}"}
            one["value"] = signed_argument(enter, at)
            one["text"] = piece.text
            if at < len(kinds) and kinds[at].startswith("path"):
                one["path"] = path_at(enter, enter.args[at])
            values.append(one)
        result = self._decoder.result(call)
        found = self._base("call", enter.ts_ns, enter.pid, enter.tid)
        if self._processes is not None:
            found["process"] = self._processes.process(enter.pid).name
        found |= {"abi": enter.abi, "nr": enter.nr, "name": name, "args": values}
        found["text"] = f"{name}({', '.join(piece.text for piece in pieces)}) = {result}"
        found["ret"] = None if exit_ is None else exit_.ret
        found["errno"] = facts.errno_name(-exit_.ret) if exit_ is not None and call.failed else None
        found["dur_ns"] = call.dur_ns
        if exit_ is not None and exit_.injected:
            found["injected"] = True
        if self._stack_lines is not None:
            found["stack"] = list(self._stack_lines(enter.stack))
        return found

    def _other(self, event: Event) -> dict[str, Any] | None:
        facts = facts_of(self._abi)
        match event:
            case Signal() if self._signals is None or event.number in self._signals:
                found = self._base("signal", event.ts_ns, event.pid, event.tid)
                found |= {"number": event.number, "name": facts.signal_name(event.number)}
                found |= {"code": code_name(event.number, event.code), "errno": event.errno}
                for each in ("sender_pid", "sender_uid", "status", "utime", "stime", "address", "value"):
                    found[each] = getattr(event, each)
                return found
            case Stopped() if self._signals is None or event.number in self._signals:
                found = self._base("stopped", event.ts_ns, event.pid, event.tid)
                return found | {"number": event.number, "name": facts.signal_name(event.number)}
            case Exited():
                number = event.status & 0x7F
                found = self._base("exit", event.ts_ns, event.pid, event.tid)
                known = event.status >= 0  # not in every session
                found["status"] = event.status >> 8 & 0xFF if known and not number else None
                found["signal"] = facts.signal_name(number) if known and number else None
                return found | {"core_dumped": bool(known and number and event.status & 0x80)}
            case Forked():
                found = self._base("fork", event.ts_ns, event.pid, event.tid)
                return found | {"child_pid": event.child_pid, "child_tid": event.child_tid}
            case Executed():
                return self._base("exec", event.ts_ns, event.pid, event.tid) | {"old_tid": event.old_tid}
            case LostHere():
                return {"type": "lost", "ts_ns": event.ts_ns, "records": event.records}
        return None
