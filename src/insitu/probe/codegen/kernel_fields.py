"""Fields of kernel structures that our own code reads, by the running kernel's types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.probe import ast
from insitu.probe.codegen.lowering import Lowering, Remote
from insitu.probe.type_resolver import Structures
from insitu.probe.types import Integer, Pointer, Record, Space, Type

if TYPE_CHECKING:
    from insitu.probe.passes.check import Checker

__all__ = ["field_offset", "load_field", "need_fields"]


def field_offset(structures: Structures, path: str) -> tuple[int, int]:
    """Offset and size in bytes of a field: ``dentry.d_name.name`` is that of ``struct dentry``.

    :raises InsituError: when this kernel has no such field, or does not describe its types.
    """
    name, *members = path.split(".")
    found: Type | None = structures.lookup(name, "struct", Space.KERNEL)
    offset, size = 0, 8
    for member in members:
        field = structures.field(found, member) if isinstance(found, Record) else None
        if field is None:
            raise InsituError(
                f"this kernel describes no {path}", remedy="CONFIG_DEBUG_INFO_BTF=y describes its types"
            )
        found, offset = field.type, offset + field.offset
        size = found.size if isinstance(found, Integer | Pointer) else 8
    return offset, size


def need_fields(checker: Checker, node: ast.Node, paths: Iterable[str]) -> None:
    """Refuse what needs fields that this kernel does not have or describe. :raises ScriptError: at the node."""
    try:
        for path in paths:
            field_offset(checker.structures, path)
    except InsituError as error:
        raise checker.error(str(error), node) from None


def load_field(low: Lowering, address: str, path: str) -> str:
    """The i64 of a number or pointer in the kernel structure at ``address``; 0 when it cannot be read."""
    offset, size = field_offset(low.structures, path)
    return low.read_scalar(Remote(address, Space.KERNEL), offset, size, False)
