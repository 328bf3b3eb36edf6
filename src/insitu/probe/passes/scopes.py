"""Block scopes: finds the variable that each name refers to, and gives each variable a unique name.

A variable belongs to the block that declares or first assigns it, as in bpftrace from 0.22 on. Scripts for older
versions, whose variables belonged to the whole probe, run unchanged where the meaning is certain: what every branch
of an if/else assigns may be used after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.source import ScriptError, Source

__all__ = ["plain_name", "resolve_scopes"]


def resolve_scopes(program: ast.Program, source: Source) -> None:
    """Rename the variables of each probe and function so that equal names mean one variable; note what loops share.

    :raises ScriptError: for an unknown variable, and for one that shadows another.
    """
    for function in program.functions:
        _Resolver(source).resolve(function)
    for probe in program.probes:
        _Resolver(source).resolve(probe)


def plain_name(name: str) -> str:
    """A variable's name as in the script: macros append # and a number to it, this pass ~ and a number."""
    return name.partition("#")[0].partition("~")[0]


class _Binding(Struct, eq=False):
    """One variable, and every node that means it."""

    first: ast.Variable
    nodes: list[ast.Variable] = field(default_factory=list)


class _Block(Struct):
    """A block that is being walked: its variables, those of blocks inside that have ended, those of both branches."""

    names: dict[str, _Binding] = field(default_factory=dict)
    ended: dict[str, _Binding] = field(default_factory=dict)
    joined: dict[str, list[_Binding]] = field(default_factory=dict)

    def certain(self) -> dict[str, list[_Binding]]:
        """What is assigned for certain when this block has ended."""
        return self.joined | {name: [binding] for name, binding in self.names.items()}


class _Resolver:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._blocks: list[_Block] = []
        self._meaning: dict[int, _Binding] = {}  # by the id of a node
        self._loops: list[ast.For | ast.While] = []

    def resolve(self, probe: ast.Probe | ast.Function) -> None:
        with self._block():
            if isinstance(probe, ast.Function):
                for parameter in probe.parameters:
                    self._declare(parameter.variable)
            else:
                self._visit(probe.predicate)
            self._statements(probe.body)
        self._rename()

    def _rename(self) -> None:
        numbers: Counter[str] = Counter()
        bindings = {id(b): b for b in self._meaning.values()}.values()
        names: dict[int, str] = {}
        for binding in bindings:
            name = binding.first.name
            numbers[name] += 1
            names[id(binding)] = name if numbers[name] == 1 else f"{name}~{numbers[name]}"
        for loop in self._loops:
            inside = Counter(id(self._meaning[id(n)]) for n in ast.walk(loop) if isinstance(n, ast.Variable))
            loop.shared = [names[id(b)] for b in bindings if 0 < inside[id(b)] < len(b.nodes)]
        for binding in bindings:
            for node in binding.nodes:
                node.name = names[id(binding)]

    @contextmanager
    def _block(self) -> Iterator[_Block]:
        block = _Block()
        self._blocks.append(block)
        yield block
        self._blocks.pop()
        if self._blocks:
            self._blocks[-1].ended |= block.ended | block.names

    # Statements and expressions

    def _visit(self, node: Any) -> None:
        if isinstance(node, list):
            for element in node:
                self._visit(element)
        elif isinstance(node, ast.Variable):
            self._use(node)
        elif isinstance(node, ast.Assign):
            self._assign(node)
        elif isinstance(node, ast.Let):
            self._visit(node.value)
            self._declare(node.variable)
        elif isinstance(node, ast.Block | ast.BlockExpression):
            with self._block():
                self._statements(node)
        elif isinstance(node, ast.If):
            self._if(node)
        elif isinstance(node, ast.For):
            self._loops.append(node)
            self._visit(node.iterable)
            with self._block():
                self._declare(node.variable)
                self._statements(node.body)
        elif isinstance(node, ast.With):
            self._visit(node.element)
            with self._block():
                self._declare(node.variable)
                self._statements(node.body)
            if node.otherwise is not None:
                self._visit(node.otherwise)
        elif isinstance(node, ast.While | ast.Unroll):
            self._visit(node.condition if isinstance(node, ast.While) else node.count)
            if isinstance(node, ast.While):
                self._loops.append(node)
            with self._block():
                self._statements(node.body)
        elif isinstance(node, ast.Node):
            for name in ast.child_names(node):
                self._visit(getattr(node, name))

    def _statements(self, node: ast.Block | ast.BlockExpression) -> None:
        self._visit(node.statements)
        if isinstance(node, ast.BlockExpression):
            self._visit(node.value)

    def _if(self, node: ast.If) -> None:
        self._visit(node.condition)
        with self._block() as then:
            self._statements(node.then)
        if node.otherwise is None:
            return
        with self._block() as otherwise:
            self._statements(node.otherwise)
        one, other = then.certain(), otherwise.certain()
        self._blocks[-1].joined |= {name: one[name] + other[name] for name in one.keys() & other.keys()}

    def _assign(self, node: ast.Assign) -> None:
        self._visit(node.value)
        if not isinstance(node.target, ast.Variable) or node.operator or self._find(node.target.name):
            self._visit(node.target)
        else:
            self._bind(node.target)

    # Names

    def _find(self, name: str) -> _Binding | None:
        for block in reversed(self._blocks):
            if name in block.names:
                return block.names[name]
            if name in block.joined:
                block.names[name] = self._merged(block.joined.pop(name))
                return block.names[name]
        return None

    def _merged(self, bindings: list[_Binding]) -> _Binding:
        first, *others = bindings
        for binding in others:
            if binding is not first:
                for node in binding.nodes:
                    self._meaning[id(node)] = first
                first.nodes += binding.nodes
        return first

    def _use(self, node: ast.Variable) -> None:
        binding = self._find(node.name)
        if binding is None:
            raise self._unknown(node)
        self._note(node, binding)

    def _bind(self, node: ast.Variable) -> None:
        binding = self._blocks[-1].names[node.name] = _Binding(node)
        self._note(node, binding)

    def _note(self, node: ast.Variable, binding: _Binding) -> None:
        binding.nodes.append(node)
        self._meaning[id(node)] = binding

    def _declare(self, node: ast.Variable) -> None:
        there = next((block.names[node.name] for block in self._blocks if node.name in block.names), None)
        if there is not None:
            where = self._source.where(there.first.span)
            name = plain_name(node.name)
            remedy = "rename one of them"
            raise ScriptError(f"{name} is already declared, at {where}", self._source, node.span, remedy=remedy)
        self._bind(node)

    def _unknown(self, node: ast.Variable) -> ScriptError:
        name = plain_name(node.name)
        for block in reversed(self._blocks):
            if node.name in block.ended:
                where = self._source.where(block.ended[node.name].first.span)
                message = f"{name} is out of scope: it is local to the block that assigns it, at {where}"
                return ScriptError(
                    message, self._source, node.span, remedy=f"declare it before the block: let {name};"
                )
        known = {plain_name(each) for block in self._blocks for each in block.names}
        message = f"unknown variable {name}{nearest(name, known)}"
        return ScriptError(message, self._source, node.span, remedy="assign the variable before using it")
