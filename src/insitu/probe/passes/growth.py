"""Bounds what macros and functions add to a script: their copies may multiply."""

from __future__ import annotations

from typing import Any

from insitu.probe import ast
from insitu.probe.source import ScriptError, Source

__all__ = ["MAX_CHAIN", "Growth", "nodes_of"]

MAX_CHAIN = 250  # calls, each in the body of the one before
_MAX_NODES = 200_000


def nodes_of(tree: Any) -> int:
    """How many nodes a tree, or a list of trees, has."""
    return sum(1 for _ in ast.walk(tree))


class Growth:
    """How many nodes a pass has added to the tree."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = 0

    def add(self, nodes: int, name: str, call: ast.Node) -> None:
        """Count what a call of ``name`` is going to add.

        :raises ScriptError: when that is too much.
        """
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            message = f"{name}() makes the script too large: the copies of bodies have over {_MAX_NODES} nodes"
            raise ScriptError(message, self._source, call.span, remedy="call it less often, or in a loop")

    def check_chain(self, length: int, name: str, call: ast.Node) -> None:
        """:raises ScriptError: when the chain of calls that ``name`` is in is too long."""
        if length >= MAX_CHAIN:
            message = f"macros and functions call each other more than {MAX_CHAIN} deep, here {name}()"
            raise ScriptError(message, self._source, call.span)
