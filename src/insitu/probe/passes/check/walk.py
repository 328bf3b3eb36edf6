"""Walks a script until its types are settled.

A map may be read above the line that assigns it, so the whole script is walked again and again until no map, key or
variable changes its type; a last, strict walk then reports what is still unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from insitu.probe import ast
from insitu.probe.builtins.tables import FUNCTIONS, VARIABLES
from insitu.probe.layout import MAX_KEY_BYTES
from insitu.probe.options import Options
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check import members, operators, statements, types
from insitu.probe.passes.check.checker import Checker, Rules
from insitu.probe.passes.check.declared_maps import check_declared, declare_maps
from insitu.probe.passes.check.dialect import MapType
from insitu.probe.passes.check.types import check_uncalled
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError, Source
from insitu.probe.type_resolver import Structures
from insitu.probe.types import Tuple

__all__ = ["check"]

_MAX_WALKS = 12
_RULES = Rules(
    {**types.EXPRESSIONS, **operators.EXPRESSIONS, **members.EXPRESSIONS},
    statements.STATEMENTS,
    FUNCTIONS,
    VARIABLES,
)


def check(
    program: ast.Program,
    clauses: list[Clause],
    source: Source,
    structures: Structures,
    options: Options,
    context: Context,
) -> Checker:
    """Type all clauses of a script: the checker, which knows every map's type.

    :raises ScriptError: at the first error.
    """
    checker = Checker(clauses, source, structures, options, context, _RULES)
    declare_maps(checker, program.maps, clauses[0])

    def all_clauses() -> None:
        for clause in clauses:
            checker.clause_types(clause)

    _settle(checker, all_clauses)
    if program.uncalled:
        _check_uncalled(checker, clauses, program.uncalled)
    for name, entry in checker.maps.items():
        check_declared(checker, name, entry)
        if entry.key is not None and entry.key.size > MAX_KEY_BYTES:
            message = f"the key of {name} takes {entry.key.size} bytes, {MAX_KEY_BYTES} are allowed"
            raise ScriptError(message, source, entry.first, remedy="use fewer or smaller parts as the key")
        _check_not_empty(source, name, entry)
    options.check_named(checker.option_names)
    return checker


def _check_not_empty(source: Source, name: str, entry: MapType) -> None:
    """Refuse keys and values without any bytes, which the kernel's hash maps have not."""
    if entry.key is None or not entry.key.elements:
        return
    if not entry.key.size:
        raise ScriptError(f"the key of {name} has only empty tuples", source, entry.first)
    if isinstance(entry.value, Tuple) and not entry.value.size:
        raise ScriptError(f"{name} has keys: its value cannot be an empty tuple", source, entry.first)


def _settle(checker: Checker, walk: Callable[[], None], *, strict: bool = True) -> None:
    """Walk until nothing changes its type; then, if ``strict``, once more to report what is unknown."""
    checker.strict = False
    for _ in range(_MAX_WALKS):
        before = checker.changes
        walk()
        if checker.changes == before:
            break
    if strict:
        checker.strict = True
        walk()


def _check_uncalled(checker: Checker, clauses: list[Clause], functions: list[ast.FunctionCall]) -> None:
    """Type the functions that nothing calls. Maps that only they use do not come to exist."""
    maps, events = checker.maps, checker.events
    checker.maps, checker.events = {name: replace(entry) for name, entry in maps.items()}, dict(events)
    kinds = {clause.points[0].kind: clause for clause in clauses}
    # One may assign a map that another, before it, reads.
    for strict in (False, True):
        for function in functions:
            _check_somewhere(checker, list(kinds.values()), function, strict=strict)
    checker.maps, checker.events = maps, events


def _check_somewhere(checker: Checker, clauses: list[Clause], function: ast.FunctionCall, *, strict: bool) -> None:
    """Type a function as if it were called by the first of the probes that allows what it uses."""
    errors = []
    for clause in clauses:
        checker.clause = clause
        try:
            _settle(checker, lambda: check_uncalled(checker, function), strict=strict)
        except ScriptError as error:
            errors.append(error)
        else:
            return
    if errors:
        raise errors[0]
