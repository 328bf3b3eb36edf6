"""Finds maps whose only keys are CPUs, each its own: ``@since[cpu]``.

The kernel finds an array's element without hashing or locks, and programs do not move to another CPU while they run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.dialect import MapType
from insitu.probe.types import Unknown

__all__ = ["maps_by_cpu"]


def maps_by_cpu(clauses: Iterable[Clause], maps: Mapping[str, MapType], whole: Collection[str]) -> list[str]:
    """Their names. ``whole``: maps that programs walk, or need as a hash for something else."""
    keys: dict[str, list[bool]] = {}
    for clause in clauses:
        for node in ast.walk(clause.probe):
            if isinstance(node, ast.MapAccess) and node.key:
                keys.setdefault(node.name, []).append(len(node.key) == 1 and _is_this_cpu(node.key[0]))
            elif isinstance(node, ast.Call) and node.name == "find" and isinstance(node.arguments[0], ast.MapAccess):
                keys.setdefault(node.arguments[0].name, []).append(_is_this_cpu(node.arguments[1]))
    return [
        name
        for name, found in keys.items()
        if all(found)
        and name not in whole
        and maps[name].declared is None
        and not isinstance(maps[name].value, Aggregation | Unknown)
    ]


def _is_this_cpu(key: object) -> bool:
    return isinstance(key, ast.Identifier) and key.name == "cpu"
