"""Names of the kernel's allocation flags (include/linux/gfp_types.h), as %gr and the kernel's own %pGg show them.

Numbers differ between kernels. The format of a tracepoint that shows them has them all, as C's expressions.
"""

from __future__ import annotations

import re
from functools import cache

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.probe import ast
from insitu.probe.bpftrace.expression_parser import ExpressionParser
from insitu.probe.passes.check.folding import fold
from insitu.probe.source import Source

__all__ = ["flag_names", "named_flags"]

_ENTRY = re.compile(r'\{([^{}"]*), "(\w+)"\}')
_CAST = re.compile(r"\(\s*(?:gfp_t|unsigned long)\s*\)")
_UINT64 = 2**64 - 1


def named_flags(flags: int) -> str:
    """``GFP_KERNEL|__GFP_ZERO``; what has no name is hexadecimal, nothing is "none"."""
    parts, rest = [], flags & _UINT64
    for mask, name in _running_kernels():
        if mask and rest & mask == mask:
            parts.append(name)
            rest &= ~mask
    if rest:
        parts.append(f"{rest:#x}")
    return "|".join(parts) or "none"


@cache
def _running_kernels() -> list[tuple[int, str]]:
    try:
        tracefs = Tracefs.open()
        try:
            return flag_names(tracefs.read("events/kmem/kmalloc/format"))
        finally:
            tracefs.close()
    except (OSError, InsituError):
        return []


def flag_names(text: str) -> list[tuple[int, str]]:
    """The (mask, name) pairs in a tracepoint's format, combinations before their parts; those that can be read."""
    found = []
    for expression, name in _ENTRY.findall(text):
        plain = _CAST.sub("", expression)
        try:
            value = _value(ExpressionParser(Source(plain), plain, {}, []).expression())
        except InsituError:
            continue
        if value is not None:
            found.append((value & _UINT64, name))
    return found


def _value(node: ast.Expression) -> int | None:
    if isinstance(node, ast.Integer):
        return node.value
    if isinstance(node, ast.Unary) and node.operator == "~":
        value = _value(node.operand)
        return None if value is None else ~value
    if isinstance(node, ast.Binary):
        left, right = _value(node.left), _value(node.right)
        return None if left is None or right is None else fold(node.operator, left, right)
    return None
