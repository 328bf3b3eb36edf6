"""Addresses of symbols and spaces of pointers: kaddr, percpu_kaddr, uaddr, kptr, uptr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.kernel.bpf_map import possible_cpus
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Remote
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


# Variables that each CPU has: include/linux/percpu-defs.h

# An array of the kernel's: how far each CPU's copies are from the addresses that the symbols have.
_OFFSETS = "__per_cpu_offset"
# A variable that each CPU has, and of which there are pointers to every CPU's copy.
_RUN_QUEUE = "runqueues"


def _check_percpu_kaddr(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the symbol")
    # Kernels without CONFIG_KALLSYMS_ALL have symbols of functions only, but types of these variables.
    if not all(map(checker.kernel_address, (name, _OFFSETS))) and checker.structures.per_cpu_offset(name) is None:
        raise checker.error(f"no kernel symbol {name!r} with a copy for each CPU", call.arguments[0])
    if len(call.arguments) > 1:
        checker.scalar(checker.argument(call, 1), "percpu_kaddr()")
    return Pointer(UINT64, Space.KERNEL)


def _percpu_kaddr(low: Lowering, call: ast.Call) -> str:
    emit, name = low.emit, low.text(call.arguments[0])
    number = low.value(operand(call, 1)) if len(call.arguments) > 1 else emit.call(Helper.GET_SMP_PROCESSOR_ID)
    address, offsets = low.kernel_address(name), low.kernel_address(_OFFSETS)
    if address and offsets:
        found = emit.op("add", _element(low, str(offsets), number), str(address))
    else:
        own, known = (low.structures.per_cpu_offset(each) or 0 for each in (name, _RUN_QUEUE))
        found = emit.op("add", _run_queue(low, number), str(own - known))
    exists = emit.truth(emit.compare("ult", number, str(possible_cpus())))
    return emit.select(exists, found, "0")


def _element(low: Lowering, array: str, index: str) -> str:
    """The i64 at an index of an array of the kernel's."""
    return low.read_scalar(
        Remote(low.emit.op("add", array, low.emit.op("shl", index, "3")), Space.KERNEL), 0, 8, False
    )


def _run_queue(low: Lowering, number: str) -> str:
    """The address of a CPU's struct rq: every task group has a queue on each (kernel/sched/core.c)."""
    task = low.emit.call(Helper.GET_CURRENT_TASK)
    queues = load_field(low, load_field(low, task, "task_struct.sched_task_group"), "task_group.cfs_rq")
    return load_field(low, _element(low, queues, number), "cfs_rq.rq")


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
    *function("percpu_kaddr", (1, 2), _check_percpu_kaddr, value=_percpu_kaddr),
    *function("kptr uptr", (1, 1), _check_cast_pointer, value=lambda low, call: low.value(operand(call))),
    *function("uaddr", (1, 1), _check_uaddr, value=_uaddr),
)
