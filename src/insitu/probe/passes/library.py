"""Functions of the language that are written in it: their calls are replaced by expressions.

Those without arguments may be called with or without parentheses.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from insitu.probe import ast
from insitu.probe.bpftrace.expression_parser import ExpressionParser
from insitu.probe.options import Options
from insitu.probe.passes.growth import Growth
from insitu.probe.passes.substitution import substituted
from insitu.probe.passes.target import FOLLOWED
from insitu.probe.source import ScriptError, Source

__all__ = ["NAMES", "expand_library"]

# (name, number of arguments) -> parameters and expression.
_LIBRARY: dict[tuple[str, int], tuple[tuple[str, ...], str]] = {
    ("ppid", 0): ((), "curtask->real_parent->tgid"),
    ("ppid", 1): (("task",), "((struct task_struct *)(task))->real_parent->tgid"),
    ("pcomm", 0): ((), "curtask->real_parent->comm"),
    ("pcomm", 1): (("task",), "((struct task_struct *)(task))->real_parent->comm"),
    ("leader_comm", 0): ((), "curtask->group_leader->comm"),
    ("leader_comm", 1): (("task",), "((struct task_struct *)(task))->group_leader->comm"),
    ("leader_tid", 0): ((), "curtask->group_leader->pid"),
    ("leader_tid", 1): (("task",), "((struct task_struct *)(task))->group_leader->pid"),
    # The kernel's IS_ERR(): the last 4095 addresses are errors.
    ("is_err", 1): (("pointer",), "(bool)((uint64)(pointer) >= 0xfffffffffffff001)"),
    ("container_of", 3): (
        ("pointer", "container", "member"),
        "(container *)((int8 *)(pointer) - offsetof(container, member))",
    ),
}
# traced(process) by options.target: whether a script is to report on the process.
_TRACED = {
    "": "true",
    "parameter": "((process) == $1)",
    "process": "((process) == cpid)",
    "command": f"has_key({FOLLOWED}, (uint32)(process))",
    "tree": f"has_key({FOLLOWED}, (uint32)(process))",
}
NAMES = frozenset(name for name, _ in _LIBRARY) | {"traced"}
"""What is written in the language itself, as a variable or a function."""


def expand_library(program: ast.Program, source: Source, options: Options) -> None:
    """Replace all calls in the probes and functions of what the script does not define itself.

    :raises ScriptError: for a wrong number of arguments.
    """
    expander = _Expander(source, options, NAMES.difference(function.name for function in program.functions))
    expander.children(program.probes)
    expander.children(program.functions)


class _Expander:
    def __init__(self, source: Source, options: Options, names: Set[str]) -> None:
        self.source = source
        self.texts = {**_LIBRARY, ("traced", 1): (("process",), _TRACED[options.target])}
        self.parameters = options.parameters
        self.names = names
        self._growth = Growth(source)

    def children(self, node: Any) -> None:
        """Replace in everything below a node (or list of nodes), in place."""
        ast.replace_children(node, self._replaced)

    def _replaced(self, node: Any) -> Any:
        self.children(node)
        if not isinstance(node, ast.Call | ast.Identifier) or node.name not in self.names:
            return node
        arguments = node.arguments if isinstance(node, ast.Call) else []
        if (node.name, len(arguments)) not in self.texts:
            wanted = " or ".join(str(count) for name, count in self.texts if name == node.name)
            message = f"{node.name}() takes {wanted} arguments, not {len(arguments)}"
            raise ScriptError(message, self.source, node.span)
        parameters, text = self.texts[node.name, len(arguments)]
        body = ExpressionParser(Source(text, node.name), text, {}, self.parameters).expression()
        for below in ast.walk(body):
            below.span = node.span
        return substituted(body, dict(zip(parameters, arguments, strict=True)), self.source, self._growth, node)
