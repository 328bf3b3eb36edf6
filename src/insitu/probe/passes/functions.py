"""The script's own functions: every call of one gets a copy of its body, with its own variables.

Copies rather than subprograms of BPF: the verifier follows a call into a subprogram as if it stood there, so that
nothing is saved, and only a copy reaches the probe's context and takes strings, tuples and records as they are.
"""

from __future__ import annotations

import copy
from typing import Any

from insitu.plurals import counted
from insitu.probe import ast
from insitu.probe.passes.growth import Growth, nodes_of
from insitu.probe.source import ScriptError, Source

__all__ = ["expand_functions"]


def expand_functions(program: ast.Program, source: Source) -> None:
    """Replace all calls of functions in the probes; the scopes pass has given all variables unique names.

    :raises ScriptError: for a wrong number of arguments, a name that is defined twice, and for functions that call
        themselves.
    """
    functions: dict[str, ast.Function] = {}
    for function in program.functions:
        if function.name in functions or any(function.name == macro.name for macro in program.macros):
            raise ScriptError(f"{function.name}() is already defined", source, function.span)
        functions[function.name] = function
    if functions:
        expander = _Expander(functions, source)
        for function in program.functions:
            expander.refuse_recursion(function, ())
        expander.children(program.probes)
        for function in program.functions:
            if function.name not in expander.called:
                program.uncalled.append(expander.uncalled(function))


class _Expander:
    def __init__(self, functions: dict[str, ast.Function], source: Source) -> None:
        self._functions = functions
        self._source = source
        self._copies = 0
        self._growth = Growth(source)
        self.called: set[str] = set()
        self._heights: dict[str, int] = {}  # function -> length of its longest chain of calls, itself included

    def refuse_recursion(self, function: ast.Function, callers: tuple[str, ...]) -> int:
        """The kernel has no stack for functions that call themselves, nor can copies be made of them.

        The length of the function's longest chain of calls. Each function is walked once: the ways to it multiply.
        """
        if function.name in self._heights:
            return self._heights[function.name]
        chain = (*callers, function.name)
        height = 1
        for node in ast.walk(function.body):
            if not isinstance(node, ast.Call) or node.name not in self._functions:
                continue
            if node.name in chain:
                path = " -> ".join((*chain[chain.index(node.name) :], node.name))
                message = f"{node.name}() calls itself ({path}): BPF has no recursion"
                raise ScriptError(message, self._source, node.span, remedy="write a loop")
            self._growth.check_chain(len(chain), node.name, node)
            below = self.refuse_recursion(self._functions[node.name], chain)
            self._growth.check_chain(len(chain) + below - 1, node.name, node)
            height = max(height, 1 + below)
        self._heights[function.name] = height
        return height

    def children(self, node: Any) -> None:
        """Expand in everything below a node (or list of nodes), in place."""
        ast.replace_children(node, self._replaced)

    def _replaced(self, node: Any) -> Any:
        self.children(node)
        if not isinstance(node, ast.Call) or node.name not in self._functions:
            return node
        function = self._functions[node.name]
        self.called.add(node.name)
        wanted, given = len(function.parameters), len(node.arguments)
        if wanted != given:
            message = f"{node.name}() takes {counted(wanted, 'argument')}, not {given}"
            raise ScriptError(message, self._source, node.span)
        return self._copy(function, node)

    def uncalled(self, function: ast.Function) -> ast.FunctionCall:
        """The copy of a function that nothing calls, without arguments."""
        return self._copy(function, ast.Call(function.span, function.name, []))

    def _copy(self, function: ast.Function, call: ast.Call) -> ast.FunctionCall:
        self._growth.add(nodes_of(function.body), function.name, call)
        self._copies += 1
        number = f"~f{self._copies}"
        parameters, body = copy.deepcopy((function.parameters, function.body))
        result = ast.Variable(call.span, f"{function.name}(){number}")
        for node in ast.walk([parameters, body]):
            if isinstance(node, ast.Variable):
                node.name += number
            elif isinstance(node, ast.For | ast.While):
                node.shared = [name + number for name in node.shared]
                if any(isinstance(each, ast.Jump) and each.keyword == "return" for each in ast.walk(node.body)):
                    node.shared.append(result.name)
        for node in ast.walk(body):
            if isinstance(node, ast.Jump) and node.keyword == "return":
                node.result, node.declared = copy.copy(result), function.result
        self.children(body)
        arguments = [self._value(argument) for argument in call.arguments]
        return ast.FunctionCall(call.span, function.name, parameters, arguments, body, result, function.result)

    def _value(self, argument: ast.Expression | ast.TypeName) -> ast.Expression:
        if isinstance(argument, ast.TypeName):
            raise ScriptError("expected a value, not a type", self._source, argument.span)
        return argument
