"""Replaces parameters in the body of a macro, or of a function of the library, by what was given for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from insitu.probe import ast
from insitu.probe.passes.growth import Growth, nodes_of
from insitu.probe.source import ScriptError, Source

__all__ = ["substituted"]


def substituted(
    body: Any,
    given: Mapping[str, Any],
    source: Source,
    growth: Growth,
    call: ast.Call | ast.Identifier,
    *,
    suffix: str = "",
) -> Any:
    """The body, changed in place: parameters replaced, the names of its own variables extended by ``suffix``.

    ``growth`` counts the copies of what the call gives.

    :raises ScriptError: for a value where the body needs a type or the name of a member, and for too many copies.
    """
    return _Substitution(given, source, growth, call, suffix).apply(body)


class _Substitution:
    def __init__(
        self, given: Mapping[str, Any], source: Source, growth: Growth, call: ast.Call | ast.Identifier, suffix: str
    ) -> None:
        self.given = given
        self.source = source
        self.suffix = suffix
        self._growth, self._call = growth, call
        self._nodes = {name: nodes_of(each) for name, each in given.items()}

    def apply(self, node: Any) -> Any:
        """The node with parameters replaced, or what replaces it."""
        if isinstance(node, list):
            return [self.apply(element) for element in node]
        if not isinstance(node, ast.Node):
            return node
        if isinstance(node, ast.Identifier | ast.Variable) and node.name in self.given:
            self._growth.add(self._nodes[node.name], self._call.name, self._call)
            return copy.deepcopy(self.given[node.name])
        if isinstance(node, ast.Variable):
            node.name += self.suffix
            return node
        if isinstance(node, ast.MapAccess) and node.name in self.given:
            node.name = self.given[node.name].name
        for name in ast.child_names(node):
            setattr(node, name, self.apply(getattr(node, name)))
        if isinstance(node, ast.TypeName):
            return self._type(node)
        if isinstance(node, ast.TypeOf):
            node.path = tuple(part for name in node.path for part in self._member(name))
        elif isinstance(node, ast.Index) and isinstance(node.object, ast.TypeName):
            return self._array(node, node.object)
        return node

    def _type(self, node: ast.TypeName) -> ast.TypeName:
        """``parameter *`` and ``typeof(parameter)``, where a type was given."""
        if not node.tag and node.name in self.given:
            given = self._as_type(node.name, copy.deepcopy(self.given[node.name]))
        elif isinstance(node.of, ast.TypeName):
            given = node.of
        else:
            return node
        if given.array and node.pointers:
            raise ScriptError("pointers to arrays are not supported", self.source, given.span)
        given.pointers += node.pointers
        given.array = node.array + given.array
        return given

    def _as_type(self, parameter: str, given: Any) -> ast.TypeName:
        if isinstance(given, ast.Identifier):
            return ast.TypeName(given.span, given.name)
        if isinstance(given, ast.TypeName):
            return given
        message = f"{parameter} has to be a type"
        raise ScriptError(message, self.source, given.span, remedy="typeof(TYPE) is one")

    def _array(self, node: ast.Index, element: ast.TypeName) -> ast.TypeName:
        """``parameter[8]``, where a type was given."""
        if not isinstance(node.index, ast.Integer):
            raise ScriptError("the size of an array has to be a number", self.source, node.span)
        element.array = (*element.array, node.index.value)
        return element

    def _member(self, name: str) -> tuple[str, ...]:
        """A member's name in offsetof(); of a parameter, the ``a.b`` that was given."""
        given = self.given.get(name)
        return (name,) if given is None else self._path(given)

    def _path(self, given: Any) -> tuple[str, ...]:
        if isinstance(given, ast.Member):
            return (*self._path(given.object), given.name)
        if isinstance(given, ast.Identifier):
            return (given.name,)
        raise ScriptError("expected the name of a member", self.source, given.span)
