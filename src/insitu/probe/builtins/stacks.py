"""Stacks and symbols: kstack, ustack, ksym, usym. The kernel keeps stacks by number; user space names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand, variable
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.maps import count_lost
from insitu.probe.codegen.process import process_id
from insitu.probe.layout import LOST_STACKS
from insitu.probe.types import NamedNumber, Stack, Type, UserSymbol

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS", "depth"]

_USER_STACK = 1 << 8  # BPF_F_USER_STACK
_MAX_FRAMES = 127  # kernel.perf_event_max_stack


def _check_stack(checker: Checker, node: ast.Call | ast.Identifier) -> Type:
    found = Stack(node.name == "ustack", _MAX_FRAMES, checker.options.stack_mode)
    for argument in node.arguments if isinstance(node, ast.Call) else ():
        if isinstance(argument, ast.Identifier):
            if argument.name not in ("bpftrace", "perf", "raw"):
                raise checker.error("a stack's mode is bpftrace, perf or raw", argument)
            found = replace(found, mode=argument.name)
        else:
            limit = checker.literal(argument, "the number of frames")
            if not 1 <= limit <= _MAX_FRAMES:
                raise checker.error(f"a stack has 1 to {_MAX_FRAMES} frames", argument)
            found = replace(found, limit=limit)
    return found


def _stack(low: Lowering, node: ast.Call | ast.Identifier, pointer: str) -> None:
    assert isinstance(node.type, Stack)
    emit = low.emit
    kind = "ustack" if node.type.user else "kstack"
    number = low.layout.stack_map(f"{kind}{node.type.limit}", node.type.limit)
    flags = _USER_STACK if node.type.user else 0
    stack = emit.call(Helper.GET_STACKID, f"ptr {low.context}", emit.map(number), f"i64 {flags}")
    low_half = emit.value(f"trunc i64 {stack} to i32")
    emit.store(emit.value(f"sext i32 {low_half} to i64"), pointer)
    collided, end = emit.label(), emit.label()
    emit.branch_if(emit.value(f"icmp eq i32 {low_half}, -17"), collided, end)  # EEXIST
    emit.block(collided)
    count_lost(low, LOST_STACKS)
    emit.block(end)
    process = "0"
    if node.type.user:
        process = process_id(low)
    emit.store(process, emit.offset(pointer, 8))


def depth(low: Lowering, kind: Stack) -> str:
    """The i64 of how many frames the current stack has, up to the limit of ``kind``."""
    emit = low.emit
    with low.temporaries():
        room = 8 * kind.limit
        frames = low.temporary(room)
        flags = _USER_STACK if kind.user else 0
        size = emit.call(Helper.GET_STACK, f"ptr {low.context}", f"ptr {frames}", f"i64 {room}", f"i64 {flags}")
    whole = emit.value(f"sext i32 {emit.value(f'trunc i64 {size} to i32')} to i64")
    return emit.op("lshr", emit.select(emit.value(f"icmp sgt i64 {whole}, 0"), whole, "0"), "3")


def _check_ksym(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "ksym()")
    return NamedNumber("ksym")


def _check_usym(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "usym()")
    return UserSymbol()


def _usym(low: Lowering, call: ast.Call, pointer: str) -> None:
    low.emit.store(low.value(operand(call)), pointer)
    low.emit.store(process_id(low), low.emit.offset(pointer, 8))


BUILTINS: tuple[Builtin, ...] = (
    *variable("kstack ustack", _check_stack, store=_stack),
    *function("kstack ustack", (0, 2), _check_stack, store=_stack),
    *function("ksym", (1, 1), _check_ksym, value=lambda low, call: low.value(operand(call))),
    *function("usym", (1, 1), _check_usym, store=_usym),
)
