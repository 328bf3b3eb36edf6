"""Walks a script until its types are settled.

A map may be read above the line that assigns it, so the whole script is walked again and again until no map, key or
variable changes its type; a last, strict walk then reports what is still unknown.
"""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.builtins.tables import FUNCTIONS, VARIABLES
from insitu.probe.layout import MAX_KEY_BYTES
from insitu.probe.options import Options
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check import members, operators, statements, types
from insitu.probe.passes.check.checker import Checker, Rules
from insitu.probe.passes.check.declared_maps import check_declared, declare_maps
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError, Source
from insitu.probe.type_resolver import Structures

__all__ = ["check"]

_MAX_WALKS = 12
_RULES = Rules(
    {**types.EXPRESSIONS, **operators.EXPRESSIONS, **members.EXPRESSIONS},
    statements.STATEMENTS,
    FUNCTIONS,
    VARIABLES,
)


def check(
    declarations: list[ast.MapDeclaration],
    clauses: list[Clause],
    source: Source,
    structures: Structures,
    options: Options,
    context: Context,
) -> Checker:
    """Type all clauses: the checker, which knows every map's type.

    :raises ScriptError: at the first error.
    """
    checker = Checker(clauses, source, structures, options, context, _RULES)
    declare_maps(checker, declarations, clauses[0])
    for _ in range(_MAX_WALKS):
        before = checker.state()
        for clause in clauses:
            checker.clause_types(clause)
        if checker.state() == before:
            break
    checker.strict = True
    for clause in clauses:
        checker.clause_types(clause)
    for name, entry in checker.maps.items():
        check_declared(checker, name, entry)
        if entry.key is not None and entry.key.size > MAX_KEY_BYTES:
            message = f"the key of {name} takes {entry.key.size} bytes, {MAX_KEY_BYTES} are allowed"
            raise ScriptError(message, source, entry.first, remedy="use fewer or smaller parts as the key")
    options.check_named(checker.option_names)
    return checker
