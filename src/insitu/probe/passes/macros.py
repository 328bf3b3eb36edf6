"""Macros: every call of one is replaced by a copy of its body, its parameters by what was given."""

from __future__ import annotations

import copy
from typing import Any

from insitu.plurals import plural
from insitu.probe import ast
from insitu.probe.passes.growth import Growth, nodes_of
from insitu.probe.passes.substitution import substituted
from insitu.probe.source import ScriptError, Source

__all__ = ["expand_macros"]


def expand_macros(program: ast.Program, source: Source) -> None:
    """Replace all calls of macros in the probes and functions.

    :raises ScriptError: for a wrong number or kind of arguments, and for macros that call each other in a circle.
    """
    macros: dict[str, list[ast.Macro]] = {}
    for macro in program.macros:
        _refuse_unreachable(macro, macros.setdefault(macro.name, []), source)
        macros[macro.name].append(macro)
    if macros:
        expander = _Expander(macros, source)
        expander.children(program.probes, ())
        expander.children(program.functions, ())


def _refuse_unreachable(macro: ast.Macro, earlier: list[ast.Macro], source: Source) -> None:
    """Macros of one name differ in the number or kinds of their parameters; the first that fits is taken."""
    if len(set(macro.parameters)) != len(macro.parameters):
        raise ScriptError(f"macro {macro.name}() has two parameters of one name", source, macro.span)
    for other in earlier:
        kinds = zip(other.parameters, macro.parameters, strict=False)
        if len(other.parameters) == len(macro.parameters) and all(_kind(a) in ("", _kind(b)) for a, b in kinds):
            message = f"macro {macro.name}() is already defined for these arguments, at {source.where(other.span)}"
            raise ScriptError(message, source, macro.span)


def _kind(parameter: str) -> str:
    """$ or @ of a parameter that takes a variable or map only; "" of one that takes any expression."""
    return parameter[0] if parameter[0] in "$@" else ""


class _Expander:
    def __init__(self, macros: dict[str, list[ast.Macro]], source: Source) -> None:
        self.macros = macros
        self.source = source
        self.count = 0
        self._growth = Growth(source)

    def children(self, node: Any, inside: tuple[ast.Macro, ...]) -> None:
        """Expand in everything below a node (or list of nodes), in place."""
        ast.replace_children(node, lambda child: self.replaced(child, inside))

    def replaced(self, node: Any, inside: tuple[ast.Macro, ...]) -> Any:
        """The node, or its replacement."""
        macro = self._meant(node)
        if macro is None:
            self.children(node, inside)
            return node
        arguments = node.arguments if isinstance(node, ast.Call) else []
        self.count += 1
        if any(macro is each for each in inside):
            raise ScriptError(f"macro {macro.name} expands recursively", self.source, node.span)
        self._growth.check_chain(len(inside), macro.name, node)
        self._growth.add(nodes_of(macro.body), macro.name, node)
        self.children(arguments, inside)
        given = dict(zip(macro.parameters, arguments, strict=True))
        body = copy.deepcopy(macro.body)
        body = substituted(body, given, self.source, self._growth, node, suffix=f"#{self.count}")
        for below in ast.walk(body):
            below.span = node.span
        self.children(body, (*inside, macro))
        return body

    def _meant(self, node: Any) -> ast.Macro | None:
        """The macro that a call or name means: the first of its name that takes such arguments.

        :raises ScriptError: when none does, unless a builtin of the name may.
        """
        if not isinstance(node, ast.Call | ast.Identifier) or node.name not in self.macros:
            return None
        macros = self.macros[node.name]
        arguments = node.arguments if isinstance(node, ast.Call) else []
        alike = [macro for macro in macros if len(macro.parameters) == len(arguments)]
        for macro in alike:
            if all(map(_fits, macro.parameters, arguments)):
                return macro
        if isinstance(node, ast.Identifier) or (not alike and _is_builtin(node.name)):
            return None
        raise self._mismatch(node, macros, alike)

    def _mismatch(self, node: ast.Call, macros: list[ast.Macro], alike: list[ast.Macro]) -> ScriptError:
        if not alike:
            counts = sorted({len(macro.parameters) for macro in macros})
            wanted = " or ".join(map(str, counts))
            arguments = plural(max(counts), "argument")
            message = f"macro {node.name}() takes {wanted} {arguments}, not {len(node.arguments)}"
            return ScriptError(message, self.source, node.span)
        pairs = zip(alike[-1].parameters, node.arguments, strict=True)
        parameter, argument = next(pair for pair in pairs if not _fits(*pair))
        needed = "a map" if parameter.startswith("@") else "a variable"
        return ScriptError(f"macro {node.name}() needs {needed} for {parameter}", self.source, argument.span)


def _fits(parameter: str, argument: Any) -> bool:
    wanted: dict[str, type[ast.Node]] = {"$": ast.Variable, "@": ast.MapAccess, "": ast.Node}
    return isinstance(argument, wanted[_kind(parameter)])


def _is_builtin(name: str) -> bool:
    from insitu.probe.builtins.tables import FUNCTIONS
    from insitu.probe.passes.library import NAMES

    return name in FUNCTIONS or name in NAMES
