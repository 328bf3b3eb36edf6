"""futex(2): which arguments an operation has, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Linked
from insitu.syscalls.kinds.arrays import array_text
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text

__all__ = ["KINDS"]

(_WAIT, _WAKE, _FD, _REQUEUE, _CMP_REQUEUE, _WAKE_OP, _LOCK_PI, _UNLOCK_PI, _TRYLOCK_PI, _WAIT_BITSET, _WAKE_BITSET,
 _WAIT_REQUEUE_PI, _CMP_REQUEUE_PI, _LOCK_PI2) = range(14)  # include/uapi/linux/futex.h  # fmt: skip
_OPERATION: Final = 0x7F
_HAS: Final = {
    _WAIT: (2, 3),
    _WAKE: (2,),
    _FD: (2,),
    _REQUEUE: (2, 3, 4),
    _CMP_REQUEUE: (2, 3, 4, 5),
    _WAKE_OP: (2, 3, 4, 5),
    _LOCK_PI: (3,),
    _UNLOCK_PI: (),
    _TRYLOCK_PI: (),
    _WAIT_BITSET: (2, 3, 5),
    _WAKE_BITSET: (2, 5),
    _WAIT_REQUEUE_PI: (2, 3, 4),
    _CMP_REQUEUE_PI: (2, 3, 4, 5),
    _LOCK_PI2: (3,),
}
"""Arguments of an operation, of those from 2 on; all of an unknown one."""
_TIMED: Final = (_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2)
_TIME: Final = Struct("tv_sec long; tv_nsec long")
_TIME_64: Final = Struct("tv_sec i64; tv_nsec i64")


def _skipped(index: int) -> Callable[[Call], bool]:
    return lambda call: index not in _HAS.get(call.enter.args[1] & _OPERATION, (2, 3, 4, 5))


def _operation(argument: Argument) -> int:
    return argument.other(1) & _OPERATION


def _timeout(argument: Argument) -> str | None:
    operation = _operation(argument)
    if operation in _TIMED:
        if not argument.value:
            return "NULL"
        return (_TIME_64 if argument.given else _TIME).text(argument)
    return str(argument.value & 0xFFFFFFFF) if operation in _HAS else hexadecimal(argument.value)


def _last(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    operation = _operation(argument)
    if operation in (_WAIT_BITSET, _WAKE_BITSET):
        text = "FUTEX_BITSET_MATCH_ANY" if value == 0xFFFFFFFF else ""
        raw = hex_or_0(value)
        if not text or argument.options.constants == "raw":
            return raw
        return f"{raw} /* {text} */" if argument.options.constants == "verbose" else text
    if operation == _WAKE_OP:
        return _wake_operation(argument, value)
    return str(value) if operation in _HAS else hex_or_0(value)


def _wake_operation(argument: Argument, value: int) -> str:
    """``FUTEX_OP_SET<<28|0x3<<12|FUTEX_OP_CMP_EQ<<24|0x1``."""
    shift = "FUTEX_OP_OPARG_SHIFT<<28|" if value >> 31 else ""
    operation = enum_text(argument, "futex_op", value >> 28 & 7, "FUTEX_OP_???")
    compare = enum_text(argument, "futex_cmp", value >> 24 & 0xF, "FUTEX_OP_CMP_???")
    return f"{shift}{operation}<<28|{hex_or_0(value >> 12 & 0xFFF)}<<12|{compare}<<24|{hex_or_0(value & 0xFFF)}"


_WAITER: Final = Struct("val u64; uaddr u64; flags u32; __reserved u32")


def _waiter(argument: Argument) -> str | None:
    data = argument.read(24)
    if data is None:
        return None
    value, address, flags, reserved = (
        _WAITER.value(argument, data, name) for name in ("val", "uaddr", "flags", "__reserved")
    )
    size = flags_text(argument, "futex_waitv", flags)
    extra = f", __reserved={reserved:#x}" if reserved else ""
    return f"{{val={hex_or_0(value)}, uaddr={hexadecimal(address)}, flags={size}{extra}}}"


KINDS: Kinds = {
    "futex_operation": Kind(lambda a: enum_text(a, "futex", a.value & 0xFFFFFFFF)),
    "futex_value": Kind(lambda a: str(a.value & 0xFFFFFFFF), skipped=_skipped(2)),
    "futex_timeout": Kind(_timeout, Bytes(16), _skipped(3), null=True),
    "futex_second": Kind(lambda a: hexadecimal(a.value), skipped=_skipped(4)),
    "futex_last": Kind(_last, skipped=_skipped(5)),
    "futex_waiters": Kind(lambda a: array_text(a, 24, a.count or 0, _waiter), Linked(24, (), 128)),
}
