"""Addresses of symbols and spaces of pointers: kaddr, uaddr, kptr, uptr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.memory import load_field
from insitu.probe.types import UINT64, VOID, Integer, Pointer, Space, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.attach import Clause
    from insitu.probe.passes.check.checker import Checker
    from insitu.probe.providers.base import AttachPoint, Context
    from insitu.symbols.elf import Elf

__all__ = ["BUILTINS"]

_FIXED = 2  # ET_EXEC: linked to run at the addresses that its symbols have
_PT_LOAD, _PT_INTERP, _PF_X = 1, 3, 1


def _check_kaddr(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the symbol")
    if checker.kernel_address(name) is None:
        raise checker.error(f"no kernel symbol {name!r}", call.arguments[0])
    return UINT64


def _check_cast_pointer(checker: Checker, call: ast.Call) -> Type:
    found = checker.scalar(checker.argument(call, 0), f"{call.name}()")
    space = Space.KERNEL if call.name == "kptr" else Space.USER
    return Pointer(found.target if isinstance(found, Pointer) else VOID, space)


# Symbols of the probed program


def _binary(point: AttachPoint, context: Context) -> tuple[Elf, str]:
    from insitu.probe.providers.support.binary import open_binary

    return open_binary(point.target, context)


def _symbol(point: AttachPoint, context: Context, name: str) -> tuple[int, int] | None:
    """Address in the file and size of a symbol of the program, its separate debug file included."""
    from insitu.symbols.data_symbols import find_symbol

    return find_symbol(_binary(point, context)[0], name)


def _check_uaddr(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the symbol")
    point = checker.clause.points[0]
    if not point.in_binary:
        raise checker.error(f"uaddr() needs a uprobe or usdt probe, this is a {point.kind} probe", call)
    if any(other.target != point.target for other in checker.clause.points):
        raise checker.error(
            "uaddr() needs all attach points in one binary", call, remedy="write one probe per binary"
        )
    found = _symbol(point, checker.context, name)
    if found is None:
        raise checker.error(f"{point.target} has no symbol {name!r}", call.arguments[0])
    if not _movable_by(checker.clause, _binary(point, checker.context)[0]):
        raise checker.error(
            "uaddr() of a shared library needs a probe with a single attach point, not at a function's return",
            call,
            remedy="save uaddr() in a map at the function's entry",
        )
    size = found[1] if found[1] in (1, 2, 4, 8) else 8
    return Pointer(Integer(size, False), Space.USER)


def _movable_by(clause: Clause, elf: Elf) -> str:
    """What reveals the load address: "nothing" where it is fixed, "instruction", "start", or "" for unknown."""
    if elf.type == _FIXED:
        return "nothing"
    if len(clause.points) == 1 and not clause.provider.traits.returning:
        return "instruction"
    return "start" if _PT_INTERP in elf.segments["type"].tolist() else ""


def _uaddr(low: Lowering, call: ast.Call) -> str:
    import numpy as np

    point = low.clause.points[0]
    found = _symbol(point, low.probe_context, low.text(call.arguments[0]))
    assert found is not None
    elf, _ = _binary(point, low.probe_context)
    how = _movable_by(low.clause, elf)
    if how == "nothing":
        return str(found[0])
    if how == "instruction":
        linked = int(elf.vaddrs_of(np.array([point.address], np.uint64))[0])
        base = low.register("ip")
    else:
        # fs/binfmt_elf.c: start_code is where the lowest executable segment begins.
        rows = elf.segments[(elf.segments["type"] == _PT_LOAD) & ((elf.segments["flags"] & _PF_X) != 0)]
        linked = int(rows["vaddr"].min())
        memory = load_field(low, low.emit.call(Helper.GET_CURRENT_TASK), "task_struct.mm")
        base = load_field(low, memory, "mm_struct.start_code")
    return low.emit.op("add", base, str(found[0] - linked))


BUILTINS: tuple[Builtin, ...] = (
    *function(
        "kaddr", (1, 1), _check_kaddr, value=lambda low, call: str(low.kernel_address(low.text(call.arguments[0])))
    ),
    *function("kptr uptr", (1, 1), _check_cast_pointer, value=lambda low, call: low.value(operand(call))),
    *function("uaddr", (1, 1), _check_uaddr, value=_uaddr),
)
