"""Constant expressions where the parser needs their value: enumerators, sizes of arrays, widths of bit fields."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.probe import ast
from insitu.probe.bpftrace.literals import INTEGER_TYPES
from insitu.probe.builtins.constants import CONSTANTS
from insitu.probe.passes.check.folding import constant

__all__ = ["value_of"]


def value_of(node: ast.Expression, enumerators: Mapping[str, int], parameters: list[str]) -> int | None:
    """The value of an expression of numbers, enumerators, and sizes of numbers and pointers; else None."""
    return constant(node, _Names(enumerators, parameters))


class _Names:
    def __init__(self, enumerators: Mapping[str, int], parameters: list[str]) -> None:
        self._enumerators, self._parameters = enumerators, parameters

    def positional_text(self, node: ast.Positional) -> str | int:
        if node.index == 0:
            return len(self._parameters)
        return self._parameters[node.index - 1] if node.index <= len(self._parameters) else ""

    def constant_name(self, name: str) -> int | None:
        return self._enumerators.get(name, CONSTANTS.get(name))

    def constant_call(self, call: ast.Call) -> int | None:
        return None

    def constant_size(self, node: ast.TypeOf) -> int | None:
        subject = node.subject
        if node.path or not isinstance(subject, ast.TypeName):
            return None
        known = INTEGER_TYPES.get(subject.name) if not subject.tag else None
        size = 8 if subject.pointers else known[0] if known else None
        for count in subject.array:
            size = None if size is None else size * count
        return size
