"""Who calls whom: functions as boxes, calls as arrows, both with their share of all samples; as DOT and SVG."""

import math
import re
import subprocess
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.plurals import plural
from insitu.terminal_text import printable
from insitu.views.call_tree import CallTree
from insitu.views.function_names import module_labels, told_apart
from insitu.views.functions import FunctionCosts, function_costs, outermost, spans
from insitu.views.quantity import amount
from insitu.views.terminal import shorten

__all__ = ["CallGraph", "GraphEdge", "GraphNode", "call_graph", "to_dot", "to_svg"]

_LABEL_COLUMNS: Final = 60
_LEAST_PIXELS: Final = 1200
_LAYOUT_SECONDS: Final = 120  # a pruned graph takes one or two


class GraphNode(NamedTuple):
    """A function; ``own`` and ``total`` weigh the samples that were in it, and in it or what it called."""

    function: str
    module: str
    own: int
    total: int


class GraphEdge(NamedTuple):
    """A call from node ``caller`` to node ``callee``: the weight of the samples with it on the stack, once each."""

    caller: int
    callee: int
    weight: int


@dataclass(frozen=True)
class CallGraph:
    """Nodes, heaviest first, and the edges between them; ``hidden`` functions were too light to be shown."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]
    total: int
    unit: str
    hidden: int = 0


def call_graph(
    tree: CallTree, *, node_percent: float = 0.5, edge_percent: float = 0.1, limit: int = 150
) -> CallGraph:
    """The graph of a call tree's functions with at least ``node_percent`` of all, the ``limit`` heaviest (0: all).

    Edges below ``edge_percent`` of all are left out. A function that calls itself, directly or not, is counted
    once per sample, and so is every call: no share exceeds 100 %.
    """
    costs = function_costs(tree)
    whole = int(tree.total[0])
    order = np.argsort(-costs.total, kind="stable")
    shown = order[(costs.total[order] > 0) & (costs.total[order] >= node_percent / 100 * whole)]
    shown = shown[: limit or None]
    position = np.full(len(costs.functions), -1, np.int64)
    position[shown] = np.arange(len(shown))
    nodes = [
        GraphNode(costs.functions[f].name, costs.functions[f].module, int(costs.own[f]), int(costs.total[f]))
        for f in shown.tolist()
    ]
    callers, callees, weights = _calls(tree, costs)
    keep = (position[callers] >= 0) & (position[callees] >= 0) & (weights >= max(edge_percent / 100 * whole, 1))
    edges = [
        GraphEdge(caller, callee, weight)
        for caller, callee, weight in zip(
            position[callers[keep]].tolist(), position[callees[keep]].tolist(), weights[keep].tolist(), strict=True
        )
    ]
    edges.sort(key=lambda edge: (-edge.weight, edge.caller, edge.callee))
    hidden = int(np.count_nonzero(costs.total)) - len(shown)
    return CallGraph(nodes, edges, whole, tree.unit, hidden)


def _calls(tree: CallTree, costs: FunctionCosts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Caller, callee and weight of every distinct call."""
    functions = len(costs.functions)
    caller, callee = costs.of_node[tree.parent], costs.of_node
    key = np.where(caller >= 0, caller * functions + callee, -1)
    key[0] = -1
    once = outermost(key, spans(tree)) & (key >= 0)
    calls, of_node = np.unique(key[once], return_inverse=True)
    weights = np.bincount(of_node, weights=tree.total[once], minlength=len(calls)).astype(np.int64)
    return calls // functions, calls % functions, weights


def to_dot(graph: CallGraph, *, title: str = "", lost: str = "") -> str:
    """The graph in graphviz' language; ``lost`` says under the title what the recording lost."""
    hidden = (
        f"{graph.hidden} lighter {plural(graph.hidden, 'function is', 'functions are')} not shown"
        if graph.hidden
        else ""
    )
    caption = "\n".join([printable(title), *(printable(note) for note in (lost, hidden) if note)])
    lines = [
        "digraph calls {",
        f'  graph [charset="UTF-8", label={_quoted(caption)}, labelloc=t, fontname="Helvetica", nodesep=0.2];',
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10, fontcolor=white, penwidth=0];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    names = [printable(node.function) for node in graph.nodes]
    short = told_apart(names)
    modules = module_labels([printable(node.module) for node in graph.nodes])
    for at, (node, module) in enumerate(zip(graph.nodes, modules, strict=True)):
        share = node.total / graph.total
        name = names[at] if len(names[at]) <= _LABEL_COLUMNS else short[at]
        rows = [shorten(name, _LABEL_COLUMNS), *([shorten(module, 40)] if module else [])]
        rows += [
            f"{100 * share:.2f} %",
            f"(self {100 * node.own / graph.total:.2f} %)",
            amount(node.total, graph.unit),
        ]
        size = 8 + 10 * math.sqrt(node.own / graph.total)
        hint = printable(f"{node.function} {node.module}".rstrip())
        lines.append(
            f"  n{at} [label={_quoted(chr(10).join(rows))}, fillcolor={_quoted(_colour(share))},"
            f" fontsize={size:.1f}, tooltip={_quoted(hint)}];"
        )
    for edge in graph.edges:
        share = edge.weight / graph.total
        width, head = max(4 * share, 0.5), max(math.sqrt(share), 0.35)
        colour = _quoted(_colour(share))
        label = f"{100 * share:.2f} %\n{amount(edge.weight, graph.unit)}"
        hint = f"{graph.nodes[edge.caller].function} calls {graph.nodes[edge.callee].function}"
        lines.append(
            f"  n{edge.caller} -> n{edge.callee} [label={_quoted(label)}, color={colour},"
            f" fontcolor={colour}, penwidth={width:.2f}, arrowsize={head:.2f},"
            f" tooltip={_quoted(printable(hint))}, labeltooltip={_quoted(printable(hint))}];"
        )
    return "\n".join([*lines, "}", ""])


def to_svg(dot: str) -> bytes:
    """Lay a graph out with graphviz' dot. Raises InsituError where there is none, or it fails."""
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"], input=dot.encode(errors="replace"), capture_output=True, timeout=_LAYOUT_SECONDS
        )
    except FileNotFoundError:
        raise InsituError(
            "no graphviz, which lays out SVG call graphs",
            remedy="apt-get install graphviz, or write DOT: -o FILE.dot",
        ) from None
    except subprocess.TimeoutExpired:
        raise InsituError(
            f"graphviz needs more than {_LAYOUT_SECONDS} s for this graph", remedy="show less: --limit 50"
        ) from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise InsituError(f"graphviz failed: {reason[0] if reason else f'exit status {done.returncode}'}")
    return _fitted(done.stdout)


def _fitted(svg: bytes) -> bytes:
    """The image as wide as the window, its own size at most; what a browser enlarges is larger than the window."""
    width = re.search(rb'<svg width="(\d+)pt"', svg)
    if not width:
        return svg
    style = f"width:100%;min-width:min({int(width[1])}pt,{_LEAST_PIXELS}px);max-width:{int(width[1])}pt;height:auto"
    return svg.replace(b"<svg ", f'<svg style="{style}" '.encode(), 1)


def _colour(share: float) -> str:
    """Hue, saturation and value: from blue through green to red as the share of all grows; dark below white text."""
    heat = math.sqrt(min(max(share, 0.0), 1.0))
    return f"{0.66 * (1 - heat):.3f} 0.85 {0.45 + 0.3 * heat:.3f}"


def _quoted(text: str) -> str:
    """A DOT string. Graphviz expands backslash escapes and, in labels, HTML entities: a name must cause neither."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;").replace("\n", "\\n")
    return f'"{escaped}"'
