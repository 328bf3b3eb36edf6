"""Macros: every call of one is replaced by a copy of its body, its parameters by what was given."""

from __future__ import annotations

import copy
from typing import Any

from insitu.probe import ast
from insitu.probe.source import ScriptError, Source

__all__ = ["expand_macros"]

_MAX_DEPTH = 32
_MAX_EXPANSIONS = 10_000


def expand_macros(program: ast.Program, source: Source) -> None:
    """Replace all calls of macros in the probes and functions.

    :raises ScriptError: for a wrong number or kind of arguments, and for macros that call each other in a circle.
    """
    macros = {macro.name: macro for macro in program.macros}
    if macros:
        expander = _Expander(macros, source)
        expander.children(program.probes, ())
        expander.children(program.functions, ())


class _Expander:
    def __init__(self, macros: dict[str, ast.Macro], source: Source) -> None:
        self.macros = macros
        self.source = source
        self.count = 0

    def children(self, node: Any, inside: tuple[str, ...]) -> None:
        """Expand in everything below a node (or list of nodes), in place."""
        ast.replace_children(node, lambda child: self.replaced(child, inside))

    def replaced(self, node: Any, inside: tuple[str, ...]) -> Any:
        """The node, or its replacement."""
        name = node.name if isinstance(node, ast.Call | ast.Identifier) else ""
        if name not in self.macros or (isinstance(node, ast.Identifier) and self.macros[name].parameters):
            self.children(node, inside)
            return node
        macro = self.macros[name]
        arguments = node.arguments if isinstance(node, ast.Call) else []
        self.count += 1
        if name in inside or len(inside) >= _MAX_DEPTH or self.count > _MAX_EXPANSIONS:
            raise ScriptError(f"macro {name} expands recursively", self.source, node.span)
        if len(arguments) != len(macro.parameters):
            wanted = len(macro.parameters)
            message = f"macro {name}() takes {wanted} argument{'s' * (wanted != 1)}, not {len(arguments)}"
            raise ScriptError(message, self.source, node.span)
        self.children(arguments, inside)
        body = copy.deepcopy(macro.body)
        given: dict[str, Any] = {}
        for parameter, argument in zip(macro.parameters, arguments, strict=True):
            self._match(parameter, argument, name)
            given[parameter] = argument
        body = _Substitution(given, f"#{self.count}").apply(body)
        for below in ast.walk(body):
            below.span = node.span
        self.children(body, (*inside, name))
        return body

    def _match(self, parameter: str, argument: Any, name: str) -> None:
        if parameter.startswith("@") and not isinstance(argument, ast.MapAccess):
            raise ScriptError(f"macro {name}() needs a map for {parameter}", self.source, argument.span)
        if parameter.startswith("$") and not isinstance(argument, ast.Variable):
            raise ScriptError(f"macro {name}() needs a variable for {parameter}", self.source, argument.span)


class _Substitution:
    """Replaces parameters by arguments; a body's own variables get unique names (``suffix``)."""

    def __init__(self, given: dict[str, Any], suffix: str) -> None:
        self.given = given
        self.suffix = suffix

    def apply(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.apply(element) for element in node]
        if not isinstance(node, ast.Node):
            return node
        if isinstance(node, ast.Identifier) and node.name in self.given:
            return copy.deepcopy(self.given[node.name])
        if isinstance(node, ast.Variable):
            if node.name in self.given:
                return copy.deepcopy(self.given[node.name])
            node.name += self.suffix
            return node
        if isinstance(node, ast.MapAccess) and node.name in self.given:
            node.name = self.given[node.name].name
        for name in ast.child_names(node):
            setattr(node, name, self.apply(getattr(node, name)))
        return node
