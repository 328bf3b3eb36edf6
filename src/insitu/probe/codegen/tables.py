"""How each class of expression and statement is lowered, and the builtins."""

from __future__ import annotations

from insitu.probe.builtins.strings import text_place
from insitu.probe.builtins.tables import FUNCTIONS, VARIABLES
from insitu.probe.codegen import arithmetic, branches, loops, maps, memory, point_names, statements
from insitu.probe.codegen.lowering import Rules
from insitu.probe.codegen.records import warn

__all__ = ["RULES"]

RULES = Rules(
    {**arithmetic.VALUES, **branches.VALUES, **memory.VALUES, **maps.VALUES, **statements.VALUES},
    {**arithmetic.STORES, **branches.STORES, **memory.STORES, **maps.STORES},
    {**memory.PLACES, **statements.PLACES},
    {**statements.STATEMENTS, **branches.STATEMENTS, **loops.STATEMENTS},
    FUNCTIONS,
    VARIABLES,
    warn,
    point_names.store_point_name,
    point_names.write_point_name,
    text_place,
)
