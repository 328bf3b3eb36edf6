"""Stacks and symbols: kstack, ustack, ksym, usym. The kernel keeps stacks by number; user space names them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from msgspec.structs import replace

from insitu.kernel.calling_convention import COPIED_REGISTERS, MACHINE
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand, variable
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import inverted, not_zero
from insitu.probe.codegen.lowering import Remote
from insitu.probe.codegen.maps import count_lost
from insitu.probe.codegen.process import process_id
from insitu.probe.layout import IN_SECOND, LOST_STACKS
from insitu.probe.types import NamedNumber, Space, Stack, Type, UserSymbol

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS", "append_stack", "check_copied_stack", "depth"]

_USER_STACK = 1 << 8  # BPF_F_USER_STACK
_MAX_FRAMES = 127  # kernel.perf_event_max_stack
_COPY_BYTES, _MIN_COPY_BYTES, _MAX_COPY_BYTES = 8192, 512, 16384  # of a user stack, for ustack(dwarf)
_SMALLEST_PIECE = 64  # how exactly the end of a stack is found that is shorter than what is asked for
_PT_REGS_BYTES = max(part.offset for part in MACHINE.registers.values()) + 8


def _check_stack(checker: Checker, node: ast.Call | ast.Identifier) -> Type:
    found = Stack(node.name == "ustack", _MAX_FRAMES, checker.options.stack_mode)
    for argument in node.arguments if isinstance(node, ast.Call) else ():
        if isinstance(argument, ast.Identifier):
            if argument.name == "dwarf":
                raise checker.error(f"{node.name}(dwarf) can only be a field of emit()", node)
            if argument.name not in ("bpftrace", "perf", "raw", "build_id"):
                raise checker.error("a stack's mode is bpftrace, perf, raw or build_id", argument)
            if argument.name == "build_id" and not found.user:
                raise checker.error("kernel code is not in files with build ids: write kstack", argument)
            found = replace(found, mode=argument.name)
        else:
            limit = checker.literal(argument, "the number of frames")
            if not 1 <= limit <= _MAX_FRAMES:
                raise checker.error(f"a stack has 1 to {_MAX_FRAMES} frames", argument)
            found = replace(found, limit=limit)
    return found


def check_copied_stack(checker: Checker, node: ast.Expression) -> Stack | None:
    """The type of ``ustack(dwarf)`` or ``ustack(dwarf, BYTES)``; None for anything else."""
    if not isinstance(node, ast.Call) or node.name not in ("ustack", "kstack"):
        return None
    modes = [a for a in node.arguments if isinstance(a, ast.Identifier) and a.name == "dwarf"]
    if not modes:
        return None
    if node.name == "kstack":
        raise checker.error("the kernel's own stacks are unwound by the kernel: write kstack", node)
    size = _COPY_BYTES
    for argument in node.arguments:
        if argument not in modes:
            size = checker.literal(argument, "the size of the stack's copy")
            if not _MIN_COPY_BYTES <= size <= _MAX_COPY_BYTES or size % 8:
                wanted = f"a multiple of 8 from {_MIN_COPY_BYTES} to {_MAX_COPY_BYTES}"
                raise checker.error(f"the size of the stack's copy is {wanted} bytes", argument)
    return Stack(True, size, "dwarf")


def append_stack(low: Lowering, kind: Stack, pointer: str) -> str:
    """Write the frames' addresses (or registers and stack) of this moment: how many bytes, or a negative error."""
    emit = low.emit
    if kind.mode == "dwarf":
        return _append_copy(low, kind, pointer)
    flags = _USER_STACK if kind.user else 0
    size = emit.call(
        Helper.GET_STACK, f"ptr {low.context}", f"ptr {pointer}", f"i64 {8 * kind.limit}", f"i64 {flags}"
    )
    low.checked(Helper.GET_STACK, size)
    return emit.value(f"sext i32 {emit.value(f'trunc i64 {size} to i32')} to i64")


def _append_copy(low: Lowering, kind: Stack, pointer: str) -> str:
    """Write the user registers and what lies above the user stack pointer: how many bytes; 0 for a kernel thread."""
    emit = low.emit
    inside = "-1"
    with low.temporaries():
        if low.clause.points[0].in_binary:
            registers = [low.register(name) for name in COPIED_REGISTERS]
        else:
            # Where the kernel has saved them when it was entered.
            task = emit.call(Helper.GET_CURRENT_TASK_BTF)
            saved = emit.call(Helper.TASK_PT_REGS, f"i64 {task}")
            copy = low.temporary(_PT_REGS_BYTES)
            low.read(copy, _PT_REGS_BYTES, Remote(saved, Space.KERNEL))
            registers = [emit.load(emit.offset(copy, MACHINE.registers[name].offset)) for name in COPIED_REGISTERS]
            inside = _user_mode(low, copy)
        for index, register in enumerate(registers):
            emit.store(register, emit.offset(pointer, 8 * index))
    start = registers[COPIED_REGISTERS.index(MACHINE.stack)]
    stack = emit.offset(pointer, 8 * len(registers))
    failed, pieces, end = (
        low.read(stack, kind.limit, Remote(start, Space.USER), may_fail=True),
        emit.label(),
        emit.label(),
    )
    begun = emit.block_name
    emit.branch_if(emit.truth(failed), pieces, end)
    emit.block(pieces)
    # The stack ends before: piece by piece, each half as long as the last.
    position, size = "0", 1 << ((kind.limit - 1).bit_length() - 1)
    while size >= _SMALLEST_PIECE:
        place = Remote(emit.op("add", start, position), Space.USER)
        missing = not_zero(emit, low.read(emit.offset(stack, position), size, place, may_fail=True))
        got = emit.hidden(emit.op("and", inverted(emit, missing), str(size)))
        position = emit.hidden(emit.op("add", position, got))
        size //= 2
    came_from = emit.block_name
    emit.block(end)
    copied = emit.phi("i64", (str(kind.limit), begun), (position, came_from))
    whole = emit.op("add", emit.hidden(copied), str(8 * len(registers)))
    return emit.hidden(emit.op("and", whole, inside))


def _user_mode(low: Lowering, registers: str) -> str:
    """The mask of whether saved registers are those of a program: kernel threads have none."""
    emit = low.emit
    name, bits, wanted = ("cs", 3, 3) if "cs" in MACHINE.registers else ("pstate", 15, 0)
    level = emit.op("and", emit.load(emit.offset(registers, MACHINE.registers[name].offset)), str(bits))
    return inverted(emit, not_zero(emit, emit.op("xor", level, str(wanted))))


def _stack(low: Lowering, node: ast.Call | ast.Identifier, pointer: str) -> None:
    assert isinstance(node.type, Stack)
    emit = low.emit
    kind = node.type
    again, lost, kept, end = (emit.label() for _ in range(4))
    stack = _stack_id(low, kind, second=False)
    emit.store(stack, pointer)
    emit.branch_if(emit.value(f"icmp eq i64 {stack}, {-errno.EEXIST}"), again, end)
    emit.block(again)
    stack = _stack_id(low, kind, second=True)
    emit.branch_if(emit.value(f"icmp eq i64 {stack}, {-errno.EEXIST}"), lost, kept)
    emit.block(lost)
    count_lost(low, LOST_STACKS)
    emit.branch(end)
    emit.block(kept)
    emit.store(emit.op("or", stack, str(IN_SECOND)), pointer)  # an error stays negative
    emit.block(end)
    process = "0"
    if node.type.user:
        process = process_id(low)
    emit.store(process, emit.offset(pointer, 8))


def _stack_id(low: Lowering, kind: Stack, *, second: bool) -> str:
    number = low.layout.stack_map(kind.map, kind.limit, build_ids=kind.mode == "build_id", second=second)
    flags = _USER_STACK if kind.user else 0
    stack = low.emit.call(Helper.GET_STACKID, f"ptr {low.context}", low.emit.map(number), f"i64 {flags}")
    low.checked(Helper.GET_STACKID, stack)
    low_half = low.emit.value(f"trunc i64 {stack} to i32")
    return low.emit.value(f"sext i32 {low_half} to i64")


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
