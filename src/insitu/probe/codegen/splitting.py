"""Splits the bodies of loops and functions that are too long for one function of BPF.

A jump reaches 32,767 instructions. Where a long body is not a probe's own, which continues in further programs
(program.py), runs of its statements become functions: the verifier follows their calls as if they stood there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from insitu.probe import ast

__all__ = ["LARGE_IF", "split_long_bodies"]

# Weights are nodes of the tree, some ten lines of LLVM IR each at most.
LARGE_IF = 5_000  # of an if in a probe's own body that program.py continues inside
_LONG = 2_500  # of a body that is split
_PART = 1_000  # of a function that it becomes, unless a single statement is larger
_CALL = 10  # a builtin takes more lines than other nodes; most of all those of long strings
_STRING_BYTES = 16
_MOST_STRING_BYTES = 2048  # longer ones are compared in loops


def split_long_bodies(probe: ast.Probe, max_strlen: int, constant: Callable[[ast.Expression], int | None]) -> None:
    """Turn long runs of statements inside of loops and functions of the script into ast.Part.

    ``constant`` returns the value of an expression that is one number at compile time.
    """
    splitter = _Splitter(max(_CALL, min(max_strlen, _MOST_STRING_BYTES) // _STRING_BYTES), constant)
    splitter.own_body(probe.body)
    if splitter.parts:
        _note_shared(probe, splitter.parts)


class _Splitter:
    def __init__(self, call_weight: int, constant: Callable[[ast.Expression], int | None]) -> None:
        self.parts: list[ast.Part] = []
        self._call_weight = call_weight
        self._constant = constant

    def own_body(self, body: ast.Block | None) -> None:
        """A probe's own statements, or those of a large if among them, which program.py divides among programs."""
        for node in body.statements if body is not None else ():
            if isinstance(node, ast.If) and sum(1 for _ in ast.walk(node)) > LARGE_IF:
                self.own_body(node.then)
                self.own_body(node.otherwise)
            else:
                self._weight(node)

    def _weight(self, node: Any) -> int:
        """How much a node adds to the function that it is in, once what is too long in it has been split."""
        if isinstance(node, list):
            return sum(map(self._weight, node))
        if not isinstance(node, ast.Node):
            return 0
        total = self._call_weight if isinstance(node, ast.Call) else 1
        for name in ast.child_names(node):
            total += self._statements(node) if name == "statements" else self._weight(getattr(node, name))
        if isinstance(node, ast.Unroll):
            total *= self._constant(node.count) or 1
            if total > _LONG:
                node.body = ast.Block(node.span, [self._part(node.body.statements)])
        elif isinstance(node, ast.For | ast.While):
            return _CALL  # mostly a function of its own
        return total

    def _statements(self, node: Any) -> int:
        """As _weight(), of a block's statements, which are split if they are too many."""
        weights = [self._weight(each) for each in node.statements]
        if sum(weights) <= _LONG:
            return sum(weights)
        found: list[ast.Statement] = []
        run: list[ast.Statement] = []
        filled = 0
        for statement, weight in zip(node.statements, weights, strict=True):
            if run and filled + weight > _PART:
                found.append(self._part(run))
                run, filled = [], 0
            run.append(statement)
            filled += weight
        node.statements = [*found, self._part(run)]
        return _CALL * len(node.statements)

    def _part(self, statements: list[ast.Statement]) -> ast.Part:
        span = statements[0].span
        self.parts.append(ast.Part(span, ast.Block(span, statements)))
        return self.parts[-1]


def _note_shared(probe: ast.Probe, parts: list[ast.Part]) -> None:
    """Set which variables the parts share with the code around them."""
    everywhere = _mentions(probe)
    for part in parts:
        part.shared = [name for name, count in _mentions(part).items() if count < everywhere[name]]


def _mentions(node: ast.Node) -> Counter[str]:
    return Counter(each.name for each in ast.walk(node) if isinstance(each, ast.Variable))
