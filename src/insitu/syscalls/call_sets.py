"""Sets of calls as strace(1) writes them: ``openat,read``, ``%file``, ``!futex``, ``/^get``, ``?new``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from insitu.errors import InsituError, nearest
from insitu.syscalls.call_word import abis_of
from insitu.syscalls.facts import facts_of
from insitu.syscalls.signature import signatures

__all__ = ["Calls", "abis", "groups", "resolve"]

Calls = frozenset[tuple[str, int]]
"""(abi, number)"""

_SUFFIXES: Final = {"64": ("x86_64", "aarch64"), "32": ("i386",), "x32": ("x32",)}

# The sets of strace(1) that are about names, not about arguments; the tables of arguments have the others.
_BY_NAME: Final = {
    "stat": "stat|stat64|oldstat",
    "lstat": "lstat|lstat64|oldlstat",
    "fstat": "fstat|fstat64|fstatat64|newfstatat|oldfstat",
    "%stat": "(old)?[lf]?stat(64)?|fstatat64|newfstatat|statx",
    "statfs": "statfs(64)?",
    "fstatfs": "fstatfs(64)?",
    "%statfs": "f?statfs(64)?|ustat",
    "clock": "adjtimex|clock_(adj|get|set)time(64|32)?|clock_getres(64|32)?(_time64)?|[gs]ettimeofday|s?time",
    "pure": "get(e?[ug]id(32)?|pgrp|pid|ppid|tid)",
    "creds": "[gs]et(e?[ug]id|re[ug]id|res[ug]id|groups|fs[ug]id)(32)?|cap[gs]et|prctl",
}
_ALIASES: Final = {"net": "network"}
_OLD_NAMES: Final = ("file", "process", "network", "net", "signal", "ipc", "desc", "memory")
"""Sets that strace(1) also takes without the %."""


def abis() -> tuple[str, ...]:
    """Returns the ABIs of programs of this machine that there are tables of. Raises InsituError."""
    return tuple(abi for abi in abis_of(os.uname().machine) if facts_of(abi).is_known)


def groups() -> list[str]:
    """Returns the names of the sets, each with its %."""
    found = {group for signature in signatures().values() for group in signature.groups}
    return sorted(f"%{group}" for group in found | set(_BY_NAME) | set(_ALIASES))


def resolve(text: str) -> Calls:
    """Returns the calls of a list. ``!`` in front of it is all others, in front of a later word leaves that out.

    Raises InsituError (status 2), which suggests the nearest name.
    """
    inverted = text.startswith("!")
    chosen: set[tuple[str, int]] = set()
    words = text.removeprefix("!").split(",")
    for at, word in enumerate(words):
        if word.startswith("!") and at and not inverted:
            chosen -= _word(word[1:])
        else:
            chosen |= _word(word)
    return _all() - chosen if inverted else frozenset(chosen)


def _all() -> Calls:
    return frozenset((abi, nr) for abi in abis() for nr in facts_of(abi).calls)


def _word(word: str) -> Calls:
    name, at, suffix = word.removeprefix("?").rpartition("@")
    if at and suffix in _SUFFIXES:
        of = tuple(abi for abi in abis() if abi in _SUFFIXES[suffix])
    else:
        name, of = word.removeprefix("?"), abis()
    if name == "all":
        return frozenset((abi, nr) for abi in of for nr in facts_of(abi).calls)
    if name == "none":
        return frozenset()
    if not name:
        raise InsituError("the name of a system call is empty", remedy="-e openat,%file,!close; -e none", status=2)
    matches = _matcher(name)
    found = frozenset((abi, nr) for abi in of for nr, call in facts_of(abi).calls.items() if matches(call.name, nr))
    if not found and not word.startswith("?"):
        names = {call.name for abi in abis() for call in facts_of(abi).calls.values()}
        what = "set of system calls" if name.startswith("%") else "system call"
        raise InsituError(f"unknown {what} {name!r}{nearest(name, [*names, *groups()])}", status=2)
    return found


def _matcher(name: str) -> Callable[[str, int], bool]:
    if name.startswith("/"):
        try:
            pattern = re.compile(name[1:])
        except re.error as error:
            raise InsituError(
                f"{name}: {error}", remedy="a regular expression stands after the /", status=2
            ) from None
        return lambda call, nr: pattern.search(call) is not None
    if name.startswith("%") or name in _OLD_NAMES:
        group = name.removeprefix("%") if name.startswith("%") else name
        group = _ALIASES.get(group, group)
        by_name = re.compile(_BY_NAME.get(group, r"(?!)"))
        table = signatures()
        return lambda call, nr: by_name.fullmatch(call) is not None or (call in table and group in table[call].groups)
    if name.isdecimal() and len(name) < 6:
        return lambda call, nr: nr == int(name)
    return lambda call, nr: call == name
