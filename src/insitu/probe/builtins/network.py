"""Addresses and byte order: ntop, pton, macaddr, bswap."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.builtins.strings import address_of
from insitu.probe.codegen.lowering import Local
from insitu.probe.types import Array, Inet, Integer, MacAddress, Pointer, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]


def _check_ntop(checker: Checker, call: ast.Call) -> Type:
    if len(call.arguments) == 2:
        checker.scalar(checker.argument(call, 0), "the family of ntop()")
    subject = checker.argument(call, len(call.arguments) - 1)
    found = checker.known(subject)
    if isinstance(found, Array | String) and found.size not in (4, 16):
        raise checker.error(f"an address has 4 or 16 bytes, not {found.size}", subject)
    if not isinstance(found, Array | String | Integer | Pointer | Unknown):
        raise checker.error(f"ntop() takes a number or an array, not {found}", subject)
    return Inet()


def _ntop(low: Lowering, call: ast.Call, pointer: str) -> None:
    emit = low.emit
    subject = operand(call, -1)
    assert subject.type is not None
    four = isinstance(subject.type, Integer) or subject.type.size == 4
    family = str(int(socket.AF_INET if four else socket.AF_INET6))
    if len(call.arguments) == 2:
        family = low.value(operand(call))
    data = emit.offset(pointer, 8)
    if isinstance(subject.type, Integer):
        value = low.value(subject)
        emit.store(value, data)
        emit.store("0", emit.offset(pointer, 16))
    else:
        emit.zero(data, 16)
        place = address_of(low, subject)
        size = 4 if four else 16
        if isinstance(place, Local):
            emit.copy(data, place.pointer, 16 if size == 16 else 8)
        else:
            low.read(data, size, place)
    emit.store(family, pointer)


def _check_macaddr(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    found = checker.known(subject)
    if not isinstance(found, Array | String | Pointer | Integer | Unknown) or (
        isinstance(found, Array | String) and found.size < 6
    ):
        raise checker.error(f"macaddr() takes six bytes, not {found}", subject)
    return MacAddress()


def _macaddr(low: Lowering, call: ast.Call) -> str:
    subject = operand(call)
    place = address_of(low, subject)
    if isinstance(place, Local):
        return low.emit.op("and", low.emit.load(place.pointer), str(2**48 - 1))
    with low.temporaries():
        slot = low.temporary(8)
        low.emit.store("0", slot)
        low.read(slot, 6, place)
        return low.emit.load(slot)


def _check_bswap(checker: Checker, call: ast.Call) -> Type:
    found = checker.scalar(checker.argument(call, 0), "bswap()")
    return Integer(found.size, False) if isinstance(found, Integer) else Integer(8, False)


def _bswap(low: Lowering, call: ast.Call) -> str:
    subject = operand(call)
    assert subject.type is not None
    value, emit = low.value(subject), low.emit
    size = subject.type.size
    if size == 1:
        return value
    if size == 8:
        return emit.value(f"call i64 @llvm.bswap.i64(i64 {value})")
    cut = emit.value(f"trunc i64 {value} to i{8 * size}")
    swapped = emit.value(f"call i{8 * size} @llvm.bswap.i{8 * size}(i{8 * size} {cut})")
    return emit.value(f"zext i{8 * size} {swapped} to i64")


def _packed(text: str) -> bytes | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except OSError:
            continue
    return None


def _check_pton(checker: Checker, call: ast.Call) -> Type:
    text = checker.text(call.arguments[0], "the address of pton()")
    packed = _packed(text)
    if packed is None:
        raise checker.error(f"{text!r} is not an IPv4 or IPv6 address", call.arguments[0])
    return Array(Integer(1, False), len(packed))


def _pton(low: Lowering, call: ast.Call, pointer: str) -> None:
    packed = _packed(low.text(call.arguments[0]))
    assert packed is not None
    for at in range(0, -(-len(packed) // 8) * 8, 8):
        word = int.from_bytes(packed[at : at + 8].ljust(8, b"\0"), "little", signed=True)
        low.emit.store(str(word), low.emit.offset(pointer, at))


BUILTINS: tuple[Builtin, ...] = (
    *function("ntop", (1, 2), _check_ntop, store=_ntop),
    *function("macaddr", (1, 1), _check_macaddr, value=_macaddr),
    *function("bswap", (1, 1), _check_bswap, value=_bswap),
    *function("pton", (1, 1), _check_pton, store=_pton),
)
