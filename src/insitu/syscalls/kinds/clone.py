"""clone(2) and clone3(2), whose arguments are shown in another order than they have."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Linked
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, flags_text
from insitu.syscalls.kinds.signals import signal_text

__all__ = ["KINDS"]

# include/uapi/linux/sched.h
_PIDFD, _SETTLS, _PARENT_SETTID, _CHILD_CLEARTID, _CHILD_SETTID, _INTO_CGROUP = (
    0x1000, 0x80000, 0x100000, 0x200000, 0x1000000, 0x200000000,
)  # fmt: skip
_SIGNAL: Final = 0xFF


def _flags(argument: Argument) -> str:
    value = argument.other(0) & 0xFFFFFFFF
    flags, number = value & ~_SIGNAL, value & _SIGNAL
    words = flags_text(argument, "clone", flags) if flags or not number else ""
    if number:
        words += ("|" if words else "") + signal_text(argument, number)
    return f"flags={words}"


def _parent_tid(argument: Argument) -> str:
    if argument.call.exit is None or argument.call.failed:
        return f"parent_tid={hexadecimal(argument.value)}"
    number = argument.number(4, signed=True)
    if number is None:
        return f"parent_tid={hexadecimal(argument.value)}"
    has_fd = argument.other(0) & _PIDFD
    return f"parent_tid=[{descriptor(argument, number) if has_fd else number}]"


def _swapped(argument: Argument) -> bool:
    """Whether tls comes before child_tid (CONFIG_CLONE_BACKWARDS)."""
    return argument.call.enter.abi in ("i386", "aarch64")


def _tls(argument: Argument) -> str:
    value = argument.other(3 if _swapped(argument) else 4)
    return f"tls={hexadecimal(value)}"


def _child_tid(argument: Argument) -> str:
    return f"child_tidptr={hexadecimal(argument.other(4 if _swapped(argument) else 3))}"


def _lacks(flags: int, call: Call) -> bool:
    return not call.enter.args[0] & flags


def _arguments(argument: Argument) -> str | None:
    """struct clone_args (include/uapi/linux/sched.h); at exit, what the kernel wrote where it points to."""
    size = (argument.other(1)) & 0xFFFFFFFFFFFFFFFF
    if size < 64:
        return None
    data = argument.call.enter.memory.read(argument.value, min(size, 88))
    if data is None or len(data) < 64:
        return None
    (flags, pidfd, child, parent, number, stack, stack_size, tls, set_tid, set_tid_size, cgroup) = (
        int.from_bytes(data[at : at + 8], "little") for at in range(0, 88, 8)
    )
    if argument.at_exit:
        return _written(argument, flags, pidfd, parent)
    words = [f"flags={flags_text(argument, 'clone3', flags)}"]
    if flags & _PIDFD:
        words.append(f"pidfd={hexadecimal(pidfd)}")
    if flags & (_CHILD_SETTID | _CHILD_CLEARTID):
        words.append(f"child_tid={hexadecimal(child)}")
    if flags & _PARENT_SETTID:
        words.append(f"parent_tid={hexadecimal(parent)}")
    words.append(f"exit_signal={signal_text(argument, number) if number < 1 << 31 else number}")
    words += [f"stack={hexadecimal(stack)}", f"stack_size={hex_or_0(stack_size)}"]
    if flags & _SETTLS:
        words.append(f"tls={hexadecimal(tls)}")
    if size >= 80 and (set_tid or set_tid_size):
        words += [f"set_tid={_tids(argument, set_tid, set_tid_size)}", f"set_tid_size={set_tid_size}"]
    if size >= 88 and flags & _INTO_CGROUP:
        words.append(f"cgroup={cgroup}")
    if size > 88:
        words.append("...")
    return "{" + ", ".join(words) + "}"


def _tids(argument: Argument, address: int, count: int) -> str:
    data = argument.memory.read(address, 4 * min(count, 32)) if address and count else None
    if not data or count > 32:
        return hexadecimal(address)
    return "[" + ", ".join(str(int.from_bytes(data[at : at + 4], "little")) for at in range(0, len(data) - 3, 4)) + "]"


def _written(argument: Argument, flags: int, pidfd: int, parent: int) -> str | None:
    words = []
    for name, address, flag in (("pidfd", pidfd, _PIDFD), ("parent_tid", parent, _PARENT_SETTID)):
        if flags & flag:
            data = argument.memory.read(address, 4)
            if data is not None and len(data) == 4:
                words.append(f"{name}=[{int.from_bytes(data, 'little', signed=True)}]")
    return "{" + ", ".join(words) + "}" if words else None


KINDS: Kinds = {
    "clone_stack": Kind(lambda a: f"child_stack={hexadecimal(a.other(1))}"),
    "clone_flags": Kind(_flags),
    "clone_parent_tid": Kind(_parent_tid, Bytes(4), lambda call: _lacks(_PARENT_SETTID | _PIDFD, call), null=True),
    "clone_tls": Kind(_tls, skipped=lambda call: _lacks(_SETTLS, call)),
    "clone_child_tid": Kind(_child_tid, skipped=lambda call: _lacks(_CHILD_SETTID | _CHILD_CLEARTID, call)),
    "clone_args": Kind(
        _arguments, Linked(88, ((8, -1, 0, Bytes(4)), (24, -1, 0, Bytes(4)), (64, 72, 4, Bytes(4))))
    ),
}
