"""A filter expression about calls as they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from insitu.errors import nearest
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Event, c_int, path_at
from insitu.syscalls.decode import Decoder, call_name, signature_of, signed_argument
from insitu.syscalls.facts import facts_of
from insitu.syscalls.filters.categories import CATEGORIES
from insitu.syscalls.filters.evaluate import compiled
from insitu.syscalls.filters.fields import FIELDS
from insitu.syscalls.filters.parser import Check, FilterError, checks, parse
from insitu.syscalls.filters.processes import Processes
from insitu.syscalls.filters.subject import DESCRIPTOR_TYPES, Argument, Descriptor, Process, Subject

__all__ = ["CallFilter", "Known"]

_STRING_BYTES = 4096
"""Of a string in evt.arg, whatever -s says (as far as the engine has read it)."""
_AT_FDCWD = -100


class Known(Protocol):
    """What is known of processes; see processes.py."""

    def observe(self, event: Event) -> None:
        """Take note of an event."""

    def returned(self, call: Call) -> None:
        """Take note of a call that has returned."""

    def process(self, pid: int) -> Process:
        """Returns a process as it is now."""


class CallFilter:
    """An expression. Calls are asked about in the order in which they return, and all events shown to ``observe``."""

    def __init__(self, text: str, realtime_offset_ns: int = 0, *, recorded: Known | None = None) -> None:
        """``recorded``: the processes of a session, whose calls are asked about; None: those that run now.

        Raises FilterError, also for fields that are known in a session only.
        """
        node = parse(text)
        self.fields = frozenset(check.field for check in checks(node))
        for field in sorted(self.fields):
            if recorded is None and not FIELDS[field].live:
                raise FilterError(f"{field} is known in a session only", text, text.find(field), len(field))
        for check in checks(node):
            _check_values(check, text)
        self._holds = compiled(node)
        self._offset_ns = realtime_offset_ns
        self._decoder = Decoder(TextOptions(string_limit=_STRING_BYTES))
        self._processes: Known = Processes() if recorded is None else recorded
        self._asked = 0
        self._about_processes = any(
            field.startswith(("proc.", "user.", "group.", "container.")) for field in self.fields
        )

    @property
    def needs_descriptors(self) -> bool:
        """Whether the engine has to look up what descriptors are open on."""
        return any(field.startswith("fd.") or field == "evt.category" for field in self.fields)

    def observe(self, event: Event) -> None:
        """Take note of what an event says of processes."""
        if self._about_processes:
            self._processes.observe(event)

    def __call__(self, call: Call) -> bool:
        """Returns whether the expression holds for a call that has returned, or never will."""
        if self._about_processes:
            self._processes.returned(call)
        enter, exit_ = call.enter, call.exit
        subject = Subject(
            self._asked,
            call_name(enter.abi, enter.nr),
            enter.ts_ns + self._offset_ns,
            enter.pid,
            enter.tid,
            call.dur_ns,
            None if exit_ is None else exit_.ret,
            facts_of(enter.abi).errno_name(-exit_.ret) if exit_ is not None and call.failed else "",
            lambda: self._processes.process(enter.pid),
            lambda: self._arguments(call),
            lambda: _descriptor(call),
            cpu=getattr(enter.memory, "cpu", None),
        )
        self._asked += 1
        return self._holds(subject)

    def _arguments(self, call: Call) -> list[Argument]:
        known = facts_of(call.enter.abi).calls.get(call.enter.nr)
        names = [name for _, name in known.parameters] if known else []
        found = []
        stored: Sequence[str] | None = getattr(call.enter.memory, "arguments", None)
        texts = [piece.text for piece in self._decoder.arguments(call)] if stored is None else stored
        for at, text in enumerate(texts):
            found.append(
                Argument(names[at] if at < len(names) else f"arg{at}", signed_argument(call.enter, at), text)
            )
        return found


def _check_values(check: Check, text: str) -> None:
    """Refuse a value that the field never has. Raises FilterError."""
    known = _VALUES.get(check.field, frozenset)() if check.operator in ("=", "==", "!=", "in") else frozenset()
    for value in check.values:
        if known and str(value) not in known:
            message = f"{check.field} is never {value}{nearest(str(value), known)}"
            raise FilterError(message, text, text.find(str(value)), len(str(value)))


def _call_names() -> frozenset[str]:
    abis = ("x86_64", "x32", "i386", "aarch64")
    return frozenset(call.name for abi in abis for call in facts_of(abi).calls.values())


def _results() -> frozenset[str]:
    facts = facts_of("x86_64")
    return frozenset(("SUCCESS", *(facts.errno_name(code) for code in range(1, 600))))


_VALUES: Mapping[str, Callable[[], frozenset[str]]] = {
    "evt.type": _call_names,
    "evt.res": _results,
    "fd.type": lambda: DESCRIPTOR_TYPES,
    "evt.category": lambda: CATEGORIES,
    "evt.io_dir": lambda: frozenset(("read", "write")),
}


def _descriptor(call: Call) -> Descriptor | None:
    """What the call returns a descriptor of, else its first one, else its first path."""
    enter, exit_ = call.enter, call.exit
    signature = signature_of(enter.abi, enter.nr)
    number: int | None = None
    name = path = ""
    for parameter, value in zip(signature.parameters, enter.args, strict=False):
        if parameter.kind in ("fd", "dirfd") and number is None:
            number = c_int(value)
            name = "" if number == _AT_FDCWD else getattr(enter.memory, "descriptors", {}).get(number, "")
        elif parameter.kind.startswith("path") and not path:
            path = path_at(enter, value) or ""
            if path:
                name = path if path.startswith("/") or not name else f"{name.rstrip('/')}/{path}"
                number = None
    if exit_ is not None and exit_.ret >= 0 and signature.returns.kind == "fd":
        number = exit_.ret
        name = getattr(exit_.memory, "descriptors", {}).get(number) or name
    return None if number is None and not name else Descriptor(number, name)
