"""strace(1)'s ``-e NAME=VALUE``: what to trace, how to show it, what to inject."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from insitu.errors import InsituError, nearest
from insitu.syscalls.call_sets import Calls, resolve
from insitu.syscalls.injection import Injection, parse_fault, parse_injection
from insitu.syscalls.selection import STATUSES

__all__ = ["QUIET", "Qualifiers", "parse_qualifiers"]

QUIET: Final = ("attach", "exit", "path-resolution", "personality", "thread-execve", "superseded")
"""Messages that -e quiet= names; the last two are the same."""

_SHORT: Final = {
    "t": "trace",
    "a": "abbrev",
    "v": "verbose",
    "x": "raw",
    "signals": "signal",
    "s": "signal",
    "reads": "read",
    "r": "read",
    "writes": "write",
    "w": "write",
    "silent": "quiet",
    "silence": "quiet",
    "q": "quiet",
    "decode-fd": "decode-fds",
    "decode-pid": "decode-pids",
}
_MOST_DESCRIPTOR: Final = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Qualifiers:
    """What all -e options say together; of one name, the last one counts (inject and fault add up)."""

    calls: Calls | None = None
    signals: frozenset[int] | None = None
    statuses: frozenset[str] = frozenset(STATUSES)
    abbreviated: Calls | None = None
    """Calls whose structures are abbreviated; None: all."""
    raw: Calls = frozenset()
    """Calls whose arguments are shown as numbers."""
    reads: frozenset[int] | None = frozenset()
    writes: frozenset[int] | None = frozenset()
    """Descriptors whose data is shown in hexadecimal; None: all."""
    quiet: frozenset[str] = frozenset()
    descriptors: int = 0
    """As TextOptions.descriptors."""
    inject: tuple[Injection, ...] = field(default=())


def parse_qualifiers(words: Iterable[str]) -> Qualifiers:
    """Returns what the values of -e mean. Raises InsituError (status 2)."""
    found = Qualifiers()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in (*_PARSERS, *_SHORT):
            if equals:
                message = f"unknown -e {name}={nearest(name, _PARSERS)}"
                raise InsituError(message, remedy=f"one of {', '.join(_PARSERS)}, or system calls", status=2)
            name, value = "trace", word
        found = _PARSERS[_SHORT.get(name, name)](found, value)
    return found


def _trace(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, calls=None if value == "all" else resolve(value))


def _abbrev(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, abbreviated=None if value == "all" else resolve(value))


def _raw(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, raw=resolve(value))


def _verbose(found: Qualifiers, value: str) -> Qualifiers:
    if value != "all":
        raise InsituError(
            "-e verbose= takes only all: structures are always shown", remedy="-e raw=SET shows numbers", status=2
        )
    return found


def _signal(found: Qualifiers, value: str) -> Qualifiers:
    numbers = range(1, 65)
    by_name = {each.name: int(each) for each in signal.Signals} | {f"SIGRT_{at - 32}": at for at in range(33, 65)}

    def number(word: str) -> int:
        name = word.upper()
        at = (
            by_name.get(name) or by_name.get(f"SIG{name}") or (int(word) if word.isdecimal() and len(word) < 3 else 0)
        )
        if at not in numbers:
            raise InsituError(f"unknown signal {word!r}{nearest(name, by_name)}", status=2)
        return at

    return replace(found, signals=_set(value, frozenset(numbers), number))


def _status(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, statuses=_names("status", value, STATUSES))


def _quiet(found: Qualifiers, value: str) -> Qualifiers:
    names = _names("message", value, QUIET)
    return replace(found, quiet=names | {"thread-execve"} if "superseded" in names else names)


def _read(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, reads=_descriptor_set(value))


def _write(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, writes=_descriptor_set(value))


def _decode_fds(found: Qualifiers, value: str) -> Qualifiers:
    names = _names("descriptor detail", value, ("path", "socket", "dev", "pidfd"))
    return replace(found, descriptors=2 if names - {"path"} else len(names))


def _inject(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, inject=(*found.inject, parse_injection(value, resolve)))


def _fault(found: Qualifiers, value: str) -> Qualifiers:
    return replace(found, inject=(*found.inject, parse_fault(value, resolve)))


def _kvm(found: Qualifiers, value: str) -> Qualifiers:
    raise InsituError("-e kvm= is not here", remedy="insitu trace -l 'tracepoint:kvm:*' lists what the kernel has")


def _decode_pids(found: Qualifiers, value: str) -> Qualifiers:
    raise InsituError("-e decode-pids= is not here", remedy="--json and sessions have the names of threads", status=2)


_PARSERS: Final = {
    "trace": _trace,
    "signal": _signal,
    "status": _status,
    "inject": _inject,
    "fault": _fault,
    "abbrev": _abbrev,
    "verbose": _verbose,
    "raw": _raw,
    "read": _read,
    "write": _write,
    "decode-fds": _decode_fds,
    "quiet": _quiet,
    "kvm": _kvm,
    "decode-pids": _decode_pids,
}


def _set(value: str, everything: frozenset[_T], parse: Callable[[str], _T]) -> frozenset[_T]:
    words = value.removeprefix("!")
    if words in ("all", "none"):
        chosen = everything if words == "all" else frozenset()
    else:
        chosen = frozenset(parse(word) for word in words.split(","))
    return everything - chosen if value.startswith("!") else chosen


def _names(what: str, value: str, known: tuple[str, ...]) -> frozenset[str]:
    def name(word: str) -> str:
        if word not in known:
            raise InsituError(f"unknown {what} {word!r}{nearest(word, known)}", remedy=", ".join(known), status=2)
        return word

    return _set(value, frozenset(known), name)


def _descriptor_set(value: str) -> frozenset[int] | None:
    if value == "all":
        return None

    def descriptor(word: str) -> int:
        if not (word.isascii() and word.isdecimal() and len(word) < 8 and int(word) < _MOST_DESCRIPTOR):
            raise InsituError(f"invalid descriptor {word!r}", remedy="numbers with commas between them", status=2)
        return int(word)

    everything = frozenset(range(1024)) if value.startswith("!") else frozenset[int]()
    return _set(value, everything, descriptor)
