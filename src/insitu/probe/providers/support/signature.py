"""Arguments of a function by its prototype and the machine's calling convention: for kprobes and uprobes."""

from __future__ import annotations

from functools import cache

from insitu.kernel.calling_convention import MACHINE
from insitu.probe.providers.arguments import Argument, ContextField, Load, UserStack
from insitu.symbols.btf import Kind, Type

__all__ = ["entry_arguments", "in_one_register", "is_returned", "return_argument"]

_REGISTER_BYTES = 8
_PTR = Kind.PTR
_ELSEWHERE = frozenset({Kind.FLOAT, Kind.VOID, Kind.STRUCT, Kind.UNION})


def in_one_register(type_: Type) -> bool:
    """Whether a value of that type is passed in a register for integers, or on the stack in place of one."""
    kind = type_.strip().kind
    return kind == _PTR or (kind not in _ELSEWHERE and 0 < type_.size <= _REGISTER_BYTES)


def entry_arguments(function: Type) -> list[Argument]:
    """The parameters that can be read at the function's entry.

    Floating-point ones cannot: probes do not see the registers that hold them. Those after a struct passed by value
    are left out too: how many registers it takes depends on what is in it.
    """
    found: list[Argument] = []
    place = 0
    for index, parameter in enumerate(function.parameters):
        if parameter.type.strip().kind == Kind.FLOAT:
            continue
        if not in_one_register(parameter.type):
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


def is_returned(type_: Type) -> bool:
    """Whether a value of that type is returned in the register for results."""
    return type_.strip().kind not in (Kind.VOID, Kind.FLOAT) and type_.size <= _REGISTER_BYTES


def return_argument(function: Type) -> list[Argument]:
    """``retval`` at the function's return; none when nothing is returned in the register for results."""
    returned = function.returns
    if not is_returned(returned):
        return []
    return [Argument("retval", returned, _low_bytes(MACHINE.registers[MACHINE.result].offset, returned))]


def _low_bytes(offset: int, type_: Type) -> ContextField:
    """The bytes of a register that hold a value of this type: calling conventions leave those above undefined."""
    return ContextField(offset, type_.size or _REGISTER_BYTES, type_.signed)
