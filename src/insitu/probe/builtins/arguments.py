"""What a probe hands a program: its own name, its arguments, registers, return values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from insitu.errors import nearest
from insitu.kernel.calling_convention import MACHINE
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, Mention, function, variable
from insitu.probe.codegen.arithmetic import as_number
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.markers import Patch
from insitu.probe.codegen.memory import argument_value
from insitu.probe.passes.check.members import argument_of, argument_type, known_arguments
from insitu.probe.providers.arguments import MAX_OPERANDS, Argument, Primitive, UserStack
from insitu.probe.types import (
    FUNCTION_MARK,
    INT64,
    UINT64,
    VOID,
    Integer,
    NamedNumber,
    Pointer,
    Space,
    String,
    Tuple,
    Type,
)

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.attach import Clause
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

# The probe


def _point(low: Lowering, node: Mention) -> str:
    """The number of the point at which the program runs: its cookie where there is one, else filled in per load."""
    if low.clause.kind.cookies and len(low.clause.points) > 1:
        return low.emit.call(Helper.GET_ATTACH_COOKIE, f"ptr {low.context}")
    return low.emit.patched(Patch.PROBE)


def _check_name(checker: Checker, node: Mention) -> Type:
    return NamedNumber(node.name, checker.name_capacity(node.name))


def _function(low: Lowering, node: Mention) -> str:
    return low.emit.op("or", _point(low, node), str(FUNCTION_MARK))


def _kind(clause: Clause) -> bytes:
    return b"special" if clause.provider.traits.run_by_us else clause.points[0].kind.lower().encode()


def _store_kind(low: Lowering, node: Mention, pointer: str) -> None:
    literal = ast.StringLiteral(node.span, _kind(low.clause))
    literal.type = node.type
    low.store(literal, pointer)


def _check_context(checker: Checker, node: Mention) -> Type:
    return Pointer(VOID, Space.KERNEL)


def _check_args(checker: Checker, node: Mention) -> Type:
    """All arguments together: a named tuple of them."""
    found = known_arguments(checker, node)
    return Tuple(tuple(argument_type(checker, each) for each in found), tuple(each.name for each in found))


def _store_args(low: Lowering, node: Mention, pointer: str) -> None:
    kinds = node.type
    assert isinstance(kinds, Tuple) and kinds.names is not None
    for index, (name, kind) in enumerate(zip(kinds.names, kinds.elements, strict=True)):
        member = ast.Member(node.span, node, name)
        member.type = kind
        low.store(member, low.emit.offset(pointer, kinds.offset(index)))


# Registers, arguments, return values

_MAX_SLOTS = 12  # MAX_BPF_FUNC_ARGS of include/linux/bpf.h
_HAS_REGISTERS = ("pt_regs", "perf_event")


def _check_argument(checker: Checker, node: Mention) -> Type:
    point, traits = checker.clause.points[0], checker.clause.provider.traits
    number = int(re.sub(r"\D", "", node.name))
    on_stack = node.name.startswith("sarg")
    if traits.returning:
        raise checker.error(
            f"{node.name} is not available when a function returns", node, remedy="save it in a map at the entry"
        )
    if traits.numbered == "slots" and not on_stack:
        if number >= _MAX_SLOTS:
            raise checker.error(f"there is no {node.name}: a tracepoint has at most {_MAX_SLOTS} arguments", node)
        return UINT64
    if traits.numbered == "operands":
        if not any(a.name == node.name for a in checker.clause.arguments or ()):
            raise checker.error(f"{point.name} has no {node.name}", node)
        return UINT64
    if traits.numbered != "registers":
        raise checker.error(
            f"{node.name} is not available in a {point.kind} probe", node, remedy="use args.NAME; -lv lists them"
        )
    if not on_stack and number >= len(MACHINE.arguments):
        most = len(MACHINE.arguments)
        raise checker.error(f"only {most} arguments are in registers", node, remedy=f"use sarg{number - most}")
    return UINT64


def _argument(low: Lowering, node: Mention) -> str:
    number = int(re.sub(r"\D", "", node.name))
    numbered = low.clause.provider.traits.numbered
    if numbered == "operands":
        found = next(a for a in low.clause.arguments or () if a.name == node.name)
        return argument_value(low, found, UINT64)
    if numbered == "slots":
        return low.load_context(8 * number, 8)
    return low.register(MACHINE.arguments[number])


def _stack_argument(low: Lowering, node: Mention) -> str:
    number = int(node.name.removeprefix("sarg"))
    load = UserStack(MACHINE.stack_offset + 8 * number)
    return argument_value(low, Argument(node.name, Primitive("u64", 8), load), UINT64)


def _check_retval(checker: Checker, node: Mention) -> Type:
    argument = argument_of(checker, "retval")
    if argument is not None:
        return argument_type(checker, argument)
    if checker.clause.provider.traits.returning:
        return INT64
    raise checker.error(f"retval is not available in a {checker.clause.points[0].kind} probe", node)


def _retval(low: Lowering, node: Mention) -> str:
    found = next((a for a in low.clause.arguments or () if a.name == "retval"), None)
    if found is not None:
        assert node.type is not None
        return argument_value(low, found, node.type)
    return low.register("result")


def _check_reg(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the register")
    if checker.clause.kind.context not in _HAS_REGISTERS:
        raise checker.error(f"registers are not available in a {checker.clause.points[0].kind} probe", call)
    if MACHINE.register(name) is None:
        hint = nearest(name, MACHINE.registers)
        raise checker.error(f"unknown register {name!r}{hint}", call.arguments[0])
    return UINT64


def _usermode(low: Lowering, node: Mention) -> str:
    """Whether the code that the probe interrupted is user code. Probes without registers know it beforehand."""
    if low.clause.kind.context not in _HAS_REGISTERS:
        return "1" if low.clause.provider.traits.run_by_us else "0"
    name, mask, level = MACHINE.user_mode
    return low.emit.compare("eq", low.emit.op("and", low.register(name), str(mask)), str(level))


BUILTINS: tuple[Builtin, ...] = (
    *variable("probe", _check_name, value=_point),
    *variable("func", _check_name, value=_function),
    *variable(
        "probetype",
        lambda checker, node: String(len(_kind(checker.clause)) + 1),
        store=_store_kind,
        constant=lambda checker: _kind(checker.clause),
    ),
    *variable("ctx", _check_context, value=lambda low, node: as_number(low, low.emit.address(low.context))),
    *variable("args", _check_args, store=_store_args),
    *variable(" ".join(f"arg{n}" for n in range(MAX_OPERANDS)), _check_argument, value=_argument),
    *variable(" ".join(f"sarg{n}" for n in range(10)), _check_argument, value=_stack_argument),
    *variable("retval", _check_retval, value=_retval),
    *variable("usermode", lambda checker, node: Integer(1, signed=False), value=_usermode),
    *function("reg", (1, 1), _check_reg, value=lambda low, call: low.register(low.text(call.arguments[0]))),
)
