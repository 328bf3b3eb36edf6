"""A call tree as lines of text: branches above a share of the whole, and how much is left out where it matters."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from insitu.terminal_text import printable
from insitu.views.call_tree import CallTree, Name
from insitu.views.function_names import told_apart
from insitu.views.quantity import formatter, percent
from insitu.views.terminal import Block, Screen, heat, shorten

__all__ = ["KIND_STYLES", "tree_lines"]

KIND_STYLES: Final = {"kernel": "magenta", "jit": "green", "python": "green"}
_LEAST_NAME: Final = 16  # columns; deeper nodes lose indentation rather than their name


class _Node(NamedTuple):
    """A node to draw; or, with ``nodes``, so many of them that are left out, and their weight together."""

    at: int
    total: int
    nodes: int = 0


def tree_lines(tree: CallTree, screen: Screen, *, min_percent: float, reverse: bool = False) -> Iterator[Block]:
    """The tree below its root, heaviest branches first.

    Where branches that are left out weigh ``min_percent`` of all together, a line says how many they are.

    In a tree that is turned to its leaves (``reverse``) a node's weight is the own time of the function at the top of
    its branch, as far as it was called this way; there is no other.
    """
    whole, owns = int(tree.total[0]), tree.self_weights()
    children = _children(tree, min_percent)
    shown = formatter(tree.unit, whole)
    amounts = {node: shown(node.total) for nodes in children.values() for node in nodes}
    title = "self" if reverse else "total"
    wide = max([len(title), *map(len, amounts.values())])
    plain = screen.plain
    short = {} if screen.width is None else _short_names(tree, children)
    figures = f"{title + '%':>6}" + ("" if reverse else "   self%")
    yield [("# " if plain else "", ""), (f"{figures}  {title:>{wide}}  function", "bold")]
    for node, lead in _walk(children):
        total = percent(node.total, whole)
        line = [("  " if plain else "", ""), (f"{total:6.2f}", heat(total))]
        if not reverse:
            own = percent(int(owns[node.at]), whole)
            line += [("  ", ""), (" " * 6 if node.nodes else f"{own:6.2f}", "" if node.nodes else heat(own))]
        if node.nodes:
            text, style = f"... {node.nodes} more", "dim"
        else:
            name = tree.names[tree.name[node.at]]
            text = printable(name.function) + _suffix(name)
            style = KIND_STYLES.get(name.kind, "")
        if screen.width is not None:
            room = max(screen.width - (10 if reverse else 18) - 2 * plain - wide, 0)
            lead = lead[-max(room - _LEAST_NAME, 0) :] if len(lead) + _LEAST_NAME > room else lead
            room = max(room - len(lead), 0)
            text = shorten(text if len(text) <= room else short.get(node, text), room)
        yield [*line, (f"  {amounts[node]:>{wide}}  ", ""), (lead, "dim"), (text, style)]


def _short_names(tree: CallTree, children: dict[int, list[_Node]]) -> dict[_Node, str]:
    """Names for where the whole ones do not fit; siblings are told apart, others are by their places."""
    short: dict[_Node, str] = {}
    for nodes in children.values():
        drawn = [node for node in nodes if not node.nodes]
        names = [tree.names[tree.name[node.at]] for node in drawn]
        texts = told_apart([printable(name.function) for name in names], [name.module for name in names])
        short |= {node: text + _suffix(name) for node, text, name in zip(drawn, texts, names, strict=True)}
    return short


def _suffix(name: Name) -> str:
    return " (inlined)" if name.inlined else ""


def _children(tree: CallTree, min_percent: float) -> dict[int, list[_Node]]:
    """What is drawn below each node, the heaviest first and what is left out last."""
    least = max(min_percent / 100 * int(tree.total[0]), 1)
    keep = np.flatnonzero(tree.total >= least)
    heaviest = keep[np.argsort(-tree.total[keep], kind="stable")]
    children: dict[int, list[_Node]] = {}
    for at, parent in zip(heaviest.tolist(), tree.parent[heaviest].tolist(), strict=True):
        if at:
            children.setdefault(parent, []).append(_Node(at, int(tree.total[at])))
    light = np.flatnonzero((tree.total < least) & (tree.total > 0))
    light = light[tree.total[tree.parent[light]] >= least]
    weight = np.zeros(len(tree), np.int64)
    np.add.at(weight, tree.parent[light], tree.total[light])
    count = np.bincount(tree.parent[light], minlength=len(tree))
    for parent in np.flatnonzero(weight >= least).tolist():
        children.setdefault(parent, []).append(_Node(-1 - parent, int(weight[parent]), int(count[parent])))
    return children


def _walk(children: dict[int, list[_Node]]) -> Iterator[tuple[_Node, str]]:
    """Every node with the drawing that leads to its name. An only child stands below its parent, not indented."""
    # Entries: node, what leads to it, what leads to those below it.
    waiting = [(node, "", "") for node in children.get(0, [])[::-1]]
    while waiting:
        node, lead, below = waiting.pop()
        yield node, lead
        nodes = children.get(node.at, [])
        if len(nodes) == 1:
            waiting.append((nodes[0], below, below))
            continue
        last = True
        for each in nodes[::-1]:
            waiting.append((each, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
            last = False
