"""Who and where: processes and threads, users, CPUs, the current task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.kernel.bpf_helpers import knows_helper
from insitu.kernel.bpf_map import possible_cpus
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, Mention, function, operand, variable
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.markers import Patch
from insitu.probe.codegen.process import process_id, thread_id
from insitu.probe.types import BOOL, UINT64, Integer, NamedNumber, Pointer, Space, String, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_COMM_BYTES = 16  # TASK_COMM_LEN
_UINT32 = Integer(4, False)
_NAMESPACES = ("curr_ns", "init")


def _uint32(checker: Checker, node: Mention) -> Type:
    return _UINT32


def _uint64(checker: Checker, node: Mention) -> Type:
    return UINT64


# Processes and threads


def _check_id(checker: Checker, call: ast.Call) -> Type:
    for argument in call.arguments:
        if not isinstance(argument, ast.Identifier) or argument.name not in _NAMESPACES:
            raise checker.error(f"{call.name}() takes curr_ns or init", argument)
        argument.type = _UINT32
    return _UINT32


def _asks_initial(node: Mention) -> bool:
    return isinstance(node, ast.Call) and any(
        isinstance(a, ast.Identifier) and a.name == "init" for a in node.arguments
    )


def _store_comm(low: Lowering, node: Mention, pointer: str) -> None:
    # Some kernels, such as 6.1, do not clear the bytes after the name: equal keys would differ.
    low.emit.zero(pointer, _COMM_BYTES)
    low.emit.call(Helper.GET_CURRENT_COMM, f"ptr {pointer}", f"i64 {_COMM_BYTES}")


def _check_comm(checker: Checker, call: ast.Call) -> Type:
    if not call.arguments:
        return String(_COMM_BYTES)
    checker.scalar(checker.argument(call, 0), "comm()")
    return NamedNumber("comm")


def _check_curtask(checker: Checker, node: Mention) -> Type:
    record = checker.structures.lookup("task_struct", "struct", Space.KERNEL)
    return Pointer(record, Space.KERNEL) if record else UINT64


def _check_user_regs(checker: Checker, node: Mention) -> Type:
    record = checker.structures.lookup("pt_regs", "struct", Space.KERNEL)
    return Pointer(record, Space.KERNEL) if record else UINT64


def _curtask(low: Lowering, node: Mention) -> str:
    typed = low.options.direct_reads and knows_helper(Helper.GET_CURRENT_TASK_BTF)
    return low.emit.call(Helper.GET_CURRENT_TASK_BTF if typed else Helper.GET_CURRENT_TASK)


def _user_regs(low: Lowering, node: Mention) -> str:
    return low.emit.call(Helper.TASK_PT_REGS, f"i64 {low.emit.call(Helper.GET_CURRENT_TASK_BTF)}")


# Users and machine


def _user(low: Lowering, node: Mention) -> str:
    return low.emit.op("and", low.emit.call(Helper.GET_CURRENT_UID_GID), str(0xFFFFFFFF))


BUILTINS: tuple[Builtin, ...] = (
    *variable("pid", _uint32, value=lambda low, node: process_id(low)),
    *variable("tid", _uint32, value=lambda low, node: thread_id(low)),
    *function("pid", (0, 1), _check_id, value=lambda low, call: process_id(low, initial=_asks_initial(call))),
    *function("tid", (0, 1), _check_id, value=lambda low, call: thread_id(low, initial=_asks_initial(call))),
    *variable("cpid", _uint32, value=lambda low, node: low.emit.patched(Patch.CHILD_PID)),
    *variable(
        "has_cpid",
        lambda checker, node: BOOL,
        value=lambda low, node: low.emit.compare("ne", low.emit.patched(Patch.CHILD_PID), "0"),
    ),
    *variable("comm", lambda checker, node: String(_COMM_BYTES), store=_store_comm),
    # Of another process, user space reads the name when it is shown.
    *function("comm", (0, 1), _check_comm, value=lambda low, call: low.value(operand(call)), store=_store_comm),
    *variable("curtask", _check_curtask, value=_curtask),
    # An extension: what the current thread has entered the kernel with.
    *variable("user_regs", _check_user_regs, value=_user_regs),
    *variable("uid", _uint32, value=_user),
    *variable(
        "gid", _uint32, value=lambda low, node: low.emit.op("lshr", low.emit.call(Helper.GET_CURRENT_UID_GID), "32")
    ),
    *variable("username", lambda checker, node: NamedNumber("username"), value=_user),
    *variable("cpu", _uint32, value=lambda low, node: low.emit.call(Helper.GET_SMP_PROCESSOR_ID)),
    *variable("numaid", _uint32, value=lambda low, node: low.emit.call(Helper.GET_NUMA_NODE_ID)),
    *variable("ncpus", _uint64, value=lambda low, node: str(possible_cpus())),
    *variable(
        "rand",
        _uint32,
        value=lambda low, node: low.emit.op("and", low.emit.call(Helper.GET_PRANDOM_U32), str(0xFFFFFFFF)),
    ),
)
