"""Maps that a script declares: ``let @name = lruhash(100);``."""

from __future__ import annotations

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.dialect import MapType
from insitu.probe.types import Unknown

__all__ = ["check_declared", "declare_maps"]

_SHARED = ("hash", "lruhash")
_HASHES_PER_CPU = ("percpuhash", "percpulruhash")
_PER_CPU = (*_HASHES_PER_CPU, "percpuarray")
_MAX_ENTRIES = 1 << 24


def declare_maps(checker: Checker, declarations: list[ast.MapDeclaration], clause: Clause) -> None:
    """Enter the declared maps. ``clause`` is any: their sizes are constants.

    :raises ScriptError: for an unknown kind, a size out of range, and a second declaration.
    """
    if declarations:
        checker.clause = clause
    for each in declarations:
        if each.name in checker.maps:
            raise checker.error(f"{each.name} is declared twice", each)
        if each.kind not in (*_SHARED, *_PER_CPU):
            hint = nearest(each.kind, (*_SHARED, *_PER_CPU))
            remedy = "" if hint else f"kinds are {', '.join((*_SHARED, *_PER_CPU))}"
            raise checker.error(f"unknown kind of map {each.kind!r}{hint}", each, remedy=remedy)
        entries = checker.literal(each.entries, f"the size of {each.name}")
        most = 1 if each.kind == "percpuarray" else _MAX_ENTRIES
        if not 1 <= entries <= most:
            raise checker.error(f"the size of {each.kind} is 1{f' to {most}' * (most > 1)}", each.entries)
        checker.maps[each.name] = MapType(first=each.span, declared=each, entries=entries)


def check_declared(checker: Checker, name: str, entry: MapType) -> None:
    """Refuse a declaration that does not fit what the map holds: aggregations are kept per CPU, all else is not."""
    if entry.declared is None or isinstance(entry.value, Unknown):
        return
    kind = entry.declared.kind
    aggregates = isinstance(entry.value, Aggregation)
    if aggregates != (kind in _PER_CPU):
        remedy = f"use {' or '.join(_HASHES_PER_CPU if aggregates else _SHARED)}"
        raise checker.error(f"{name} is declared {kind}, but holds {entry.value}", entry.declared, remedy=remedy)
    if kind == "percpuarray" and entry.key is not None and entry.key.elements:
        message = f"{name} is declared percpuarray, which has no keys"
        raise checker.error(message, entry.declared, remedy="use percpuhash")
