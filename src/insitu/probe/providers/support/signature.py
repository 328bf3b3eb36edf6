"""Arguments of a function by its prototype and the machine's calling convention: for kprobes and uprobes."""

from __future__ import annotations

from functools import cache

from insitu.kernel.calling_convention import MACHINE
from insitu.probe.providers.base import Argument, ContextField, Load, UserStack
from insitu.symbols.btf import Kind, Type

__all__ = ["entry_arguments", "return_argument"]

_REGISTER_BYTES = 8


def entry_arguments(function: Type) -> list[Argument]:
    """The parameters that can be read at the function's entry.

    Floating-point ones cannot: probes do not see the registers that hold them. Those after a struct passed by value
    are left out too: how many registers it takes depends on what is in it.
    """
    found: list[Argument] = []
    place = 0
    for index, parameter in enumerate(function.parameters):
        kind = parameter.type.strip().kind
        if kind == Kind.FLOAT:
            continue
        if kind in (Kind.VOID, Kind.STRUCT, Kind.UNION) or parameter.type.size > _REGISTER_BYTES:
            break
        load = _place(place, parameter.type.size or _REGISTER_BYTES, parameter.type.signed)
        found.append(Argument(parameter.name or f"arg{index}", parameter.type, load))
        place += 1
    return found


@cache
def _place(index: int, size: int, signed: bool) -> Load:
    """Where the calling convention puts an argument of a size and sign."""
    register = MACHINE.argument(index)
    if register:
        return ContextField(register.offset, size, signed)
    return UserStack(MACHINE.stack_offset + _REGISTER_BYTES * (index - len(MACHINE.arguments)))


def return_argument(function: Type) -> list[Argument]:
    """``retval`` at the function's return; none when nothing is returned in the register for results."""
    returned = function.returns
    if returned.strip().kind in (Kind.VOID, Kind.FLOAT) or returned.size > _REGISTER_BYTES:
        return []
    return [Argument("retval", returned, _low_bytes(MACHINE.registers[MACHINE.result].offset, returned))]


def _low_bytes(offset: int, type_: Type) -> ContextField:
    """The bytes of a register that hold a value of this type: calling conventions leave those above undefined."""
    return ContextField(offset, type_.size or _REGISTER_BYTES, type_.signed)
