"""Who and where: pid, comm, cpu, curtask, the probe itself, registers, arguments and return values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from insitu.kernel.calling_convention import MACHINE
from insitu.probe import ast
from insitu.probe.builtins.registry import function, variable
from insitu.probe.codegen.emitter import Patch
from insitu.probe.codegen.helpers import Helper
from insitu.probe.providers.base import UserStack
from insitu.probe.source import nearest
from insitu.probe.types import (
    INT64,
    UINT64,
    VOID,
    Integer,
    NamedNumber,
    Pointer,
    Space,
    String,
    Type,
)

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check import Checker

__all__: list[str] = []

_COMM_BYTES = 16  # TASK_COMM_LEN
_UINT32 = Integer(4, False)


def _half(helper: Helper, high: bool) -> object:
    def value(low: Lowering, node: ast.Identifier) -> str:
        both = low.emit.call(helper)
        return low.emit.op("lshr", both, "32") if high else low.emit.op("and", both, str(0xFFFFFFFF))

    return value


def _uint32(checker: Checker, node: ast.Expression) -> Type:
    return _UINT32


def _uint64(checker: Checker, node: ast.Expression) -> Type:
    return UINT64


variable("pid", _uint32, value=_half(Helper.GET_CURRENT_PID_TGID, True))  # type: ignore[arg-type]
variable("tid", _uint32, value=_half(Helper.GET_CURRENT_PID_TGID, False))  # type: ignore[arg-type]
variable("gid", _uint32, value=_half(Helper.GET_CURRENT_UID_GID, True))  # type: ignore[arg-type]
variable("uid", _uint32, value=_half(Helper.GET_CURRENT_UID_GID, False))  # type: ignore[arg-type]
variable(
    "username",
    lambda checker, node: NamedNumber("username"),
    value=_half(Helper.GET_CURRENT_UID_GID, False),  # type: ignore[arg-type]
)
variable("cpu", _uint32, value=lambda low, node: low.emit.call(Helper.GET_SMP_PROCESSOR_ID))
variable("numaid", _uint32, value=lambda low, node: low.emit.call(Helper.GET_NUMA_NODE_ID))
variable(
    "rand",
    _uint32,
    value=lambda low, node: low.emit.op("and", low.emit.call(Helper.GET_PRANDOM_U32), str(0xFFFFFFFF)),
)
variable("cgroup", _uint64, value=lambda low, node: low.emit.call(Helper.GET_CURRENT_CGROUP_ID))
variable("cpid", _uint32, value=lambda low, node: low.emit.patched(Patch.CHILD_PID))


def _store_comm(low: Lowering, node: ast.Identifier, pointer: str) -> None:
    low.emit.call(Helper.GET_CURRENT_COMM, f"ptr {pointer}", f"i64 {_COMM_BYTES}")


variable("comm", lambda checker, node: String(_COMM_BYTES), store=_store_comm)


def _check_curtask(checker: Checker, node: ast.Identifier) -> Type:
    record = checker.structures.lookup("task_struct", "struct", Space.KERNEL)
    return Pointer(record, Space.KERNEL) if record else UINT64


variable("curtask", _check_curtask, value=lambda low, node: low.emit.call(Helper.GET_CURRENT_TASK))


# The probe


def _point(low: Lowering, node: ast.Identifier) -> str:
    """The number of the point at which the program runs: its cookie where there is one, else filled in per load."""
    if low.clause.kind.cookies and len(low.clause.points) > 1:
        return low.emit.call(Helper.GET_ATTACH_COOKIE, f"ptr {low.context}")
    return low.emit.patched(Patch.PROBE)


variable("probe", lambda checker, node: NamedNumber("probe"), value=_point)
variable("func", lambda checker, node: NamedNumber("func"), value=_point)


def _check_context(checker: Checker, node: ast.Identifier) -> Type:
    return Pointer(VOID, Space.KERNEL)


variable("ctx", _check_context, value=lambda low, node: low.emit.address(low.context))


def _check_args(checker: Checker, node: ast.Identifier) -> Type:
    raise checker.error("args is used with a field, as in args.filename", node)


variable("args", _check_args)


# Registers, arguments, return values

_HAS_REGISTERS = ("pt_regs", "perf_event")


def _check_argument(checker: Checker, node: ast.Identifier) -> Type:
    context = checker.clause.kind.context
    kind = checker.clause.points[0].kind
    number = int(re.sub(r"\D", "", node.name))
    if kind in ("kretprobe", "uretprobe"):
        raise checker.error(f"{node.name} is gone when a function returns", node, remedy="keep it at the entry")
    if context == "arguments" and kind == "rawtracepoint" and node.name.startswith("arg"):
        return UINT64
    if kind == "usdt":
        if checker.clause.arguments is None:
            checker.clause.arguments = checker.usdt_arguments()
        if not any(a.name == node.name for a in checker.clause.arguments or ()):
            raise checker.error(f"{checker.clause.points[0].name} has no {node.name}", node)
        return UINT64
    if context != "pt_regs":
        raise checker.error(
            f"{node.name} is not known in a {kind} probe", node, remedy="use args.NAME; -lv lists them"
        )
    if node.name.startswith("arg") and number >= len(MACHINE.arguments):
        most = len(MACHINE.arguments)
        raise checker.error(f"only {most} arguments travel in registers", node, remedy=f"use sarg{number - most}")
    return UINT64


def _argument(low: Lowering, node: ast.Identifier) -> str:
    from insitu.probe.codegen.memory import argument_value

    number = int(re.sub(r"\D", "", node.name))
    if low.clause.points[0].kind == "usdt":
        found = next(a for a in low.clause.arguments or () if a.name == node.name)
        return argument_value(low, found, UINT64)
    if low.clause.kind.context == "arguments":
        return low.load_context(8 * number, 8)
    return low.register(MACHINE.arguments[number])


def _stack_argument(low: Lowering, node: ast.Identifier) -> str:
    from insitu.probe.codegen.memory import argument_value
    from insitu.probe.providers.base import Argument, Primitive

    number = int(node.name.removeprefix("sarg"))
    load = UserStack(MACHINE.stack_offset + 8 * number)
    return argument_value(low, Argument(node.name, Primitive("u64", 8), load), UINT64)


variable(" ".join(f"arg{n}" for n in range(10)), _check_argument, value=_argument)
variable(" ".join(f"sarg{n}" for n in range(10)), _check_argument, value=_stack_argument)


def _check_retval(checker: Checker, node: ast.Identifier) -> Type:
    from insitu.probe.passes.members import argument_of, argument_type

    kind = checker.clause.points[0].kind
    argument = argument_of(checker, "retval")
    if argument is not None:
        return argument_type(checker, argument)
    if kind in ("kretprobe", "uretprobe"):
        return INT64
    raise checker.error(f"retval is not known in a {kind} probe", node)


def _retval(low: Lowering, node: ast.Identifier) -> str:
    from insitu.probe.codegen.memory import argument_value

    found = next((a for a in low.clause.arguments or () if a.name == "retval"), None)
    if found is not None:
        assert node.type is not None
        return argument_value(low, found, node.type)
    return low.register("result")


variable("retval", _check_retval, value=_retval)


def _check_reg(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the register")
    if checker.clause.kind.context not in _HAS_REGISTERS:
        raise checker.error(f"registers are not known in a {checker.clause.points[0].kind} probe", call)
    if name not in MACHINE.registers:
        hint = nearest(name, MACHINE.registers)
        raise checker.error(f"no register {name!r} on this machine{hint}", call.arguments[0])
    return UINT64


function("reg", (1, 1), _check_reg, value=lambda low, call: low.register(low.text(call.arguments[0])))


# Addresses, signals


def _check_kaddr(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the symbol")
    if checker.kernel_address(name) is None:
        raise checker.error(f"no kernel symbol {name!r}", call.arguments[0])
    return UINT64


function("kaddr", (1, 1), _check_kaddr, value=lambda low, call: str(low.kernel_address(low.text(call.arguments[0]))))


def _check_scalar(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), f"{call.name}()")
    return VOID


def _check_signal(checker: Checker, call: ast.Call) -> Type:
    if isinstance(call.arguments[0], ast.StringLiteral):
        import signal

        name = checker.text(call.arguments[0], "the signal").upper()
        member = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
        if member is None:
            raise checker.error(f"no signal {name!r}", call.arguments[0])
        number = ast.Integer(call.arguments[0].span, int(member))
        call.arguments[0] = number
    return _check_scalar(checker, call)


def _signal(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.Expression)
    low.emit.call(Helper.SEND_SIGNAL, f"i64 {low.value(subject)}")
    return "0"


def _override(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.Expression)
    low.emit.call(Helper.OVERRIDE_RETURN, f"ptr {low.context}", f"i64 {low.value(subject)}")
    return "0"


function("signal", (1, 1), _check_signal, value=_signal, statement=True, unsafe=True)
function("override", (1, 1), _check_scalar, value=_override, statement=True, unsafe=True)


def _check_cast_pointer(checker: Checker, call: ast.Call) -> Type:
    found = checker.scalar(checker.argument(call, 0), f"{call.name}()")
    space = Space.KERNEL if call.name == "kptr" else Space.USER
    return Pointer(found.target if isinstance(found, Pointer) else VOID, space)


def _same(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.Expression)
    return low.value(subject)


function("kptr uptr", (1, 1), _check_cast_pointer, value=_same)


def _check_cgroupid(checker: Checker, call: ast.Call) -> Type:
    from pathlib import Path

    path = checker.text(call.arguments[0], "the cgroup's path")
    if not Path(path).is_dir():
        raise checker.error(f"{path} is no directory", call.arguments[0])
    return UINT64


def _cgroupid(low: Lowering, call: ast.Call) -> str:
    from pathlib import Path

    return str(Path(low.text(call.arguments[0])).stat().st_ino)


function("cgroupid", (1, 1), _check_cgroupid, value=_cgroupid)


def _not_yet(checker: Checker, call: ast.Call) -> Type:
    raise checker.error(f"{call.name}() is not supported yet", call)


function("uaddr path skboutput cgroup_path", (0, 9), _not_yet)
