"""Classic BPF programs, of sockets and of seccomp, as the macros of include/uapi/linux/filter.h write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Linked, Wide
from insitu.syscalls.kinds.layout import hex_or_0

__all__ = ["FILTER", "KINDS", "instructions", "seccomp_filter", "socket_constant", "socket_filter"]

_MOST: Final = 4096
"""BPF_MAXINSNS."""
_CLASSES: Final = ("BPF_LD", "BPF_LDX", "BPF_ST", "BPF_STX", "BPF_ALU", "BPF_JMP", "BPF_RET", "BPF_MISC")
_SIZES: Final = {0: "BPF_W", 8: "BPF_H", 0x10: "BPF_B", 0x18: "BPF_DW"}
_MODES: Final = {0: "BPF_IMM", 0x20: "BPF_ABS", 0x40: "BPF_IND", 0x60: "BPF_MEM", 0x80: "BPF_LEN", 0xA0: "BPF_MSH"}
_OPERATIONS: Final = {
    0: "BPF_ADD", 0x10: "BPF_SUB", 0x20: "BPF_MUL", 0x30: "BPF_DIV", 0x40: "BPF_OR", 0x50: "BPF_AND", 0x60: "BPF_LSH",
    0x70: "BPF_RSH", 0x80: "BPF_NEG", 0x90: "BPF_MOD", 0xA0: "BPF_XOR",
}  # fmt: skip
_JUMPS: Final = {0: "BPF_JA", 0x10: "BPF_JEQ", 0x20: "BPF_JGT", 0x30: "BPF_JGE", 0x40: "BPF_JSET"}
_ACTIONS: Final = {
    0x80000000: "SECCOMP_RET_KILL_PROCESS", 0: "SECCOMP_RET_KILL_THREAD", 0x30000: "SECCOMP_RET_TRAP",
    0x50000: "SECCOMP_RET_ERRNO", 0x7FC00000: "SECCOMP_RET_USER_NOTIF", 0x7FF00000: "SECCOMP_RET_TRACE",
    0x7FFC0000: "SECCOMP_RET_LOG", 0x7FFF0000: "SECCOMP_RET_ALLOW",
}  # fmt: skip
_ANCILLARY: Final = (
    "SKF_AD_PROTOCOL", "SKF_AD_PKTTYPE", "SKF_AD_IFINDEX", "SKF_AD_NLATTR", "SKF_AD_NLATTR_NEST", "SKF_AD_MARK",
    "SKF_AD_QUEUE", "SKF_AD_HATYPE", "SKF_AD_RXHASH", "SKF_AD_CPU", "SKF_AD_ALU_XOR_X", "SKF_AD_VLAN_TAG",
    "SKF_AD_VLAN_TAG_PRESENT", "SKF_AD_PAY_OFFSET", "SKF_AD_RANDOM", "SKF_AD_VLAN_TPID",
)  # fmt: skip
FILTER: Final = Wide(
    Linked(16, ((8, 0, 2, Linked(8, (), _MOST)),)),
    Linked(8, ((4, 0, 2, Linked(8, (), _MOST)),)),
)
"""struct sock_fprog."""


def _named(names: dict[int, str], value: int) -> str:
    return names.get(value) or hex_or_0(value)


def _code_text(code: int) -> str:
    kind = code & 7
    name = _CLASSES[kind]
    if kind in (0, 1):
        words = [name, _named(_SIZES, code & 0x18), _named(_MODES, code & 0xE0)]
        rest = code & ~0xFF
    elif kind in (2, 3):
        words, rest = [name], code & ~7
    elif kind == 4:
        words, rest = [name, "BPF_X" if code & 8 else "BPF_K", f"{_named(_OPERATIONS, code & 0xF0)}"], code & ~0xFF
    elif kind == 5:
        words, rest = [name, "BPF_X" if code & 8 else "BPF_K", f"{_named(_JUMPS, code & 0xF0)}"], code & ~0xFF
    elif kind == 6:
        words = [name, {0: "BPF_K", 8: "BPF_X", 0x10: "BPF_A"}.get(code & 0x18, hex_or_0(code & 0x18))]
        rest = code & ~0x1F
    else:
        words, rest = [name, {0: "BPF_TAX", 0x80: "BPF_TXA"}.get(code & 0xF8, hex_or_0(code & 0xF8))], code & ~0xFF
    return "|".join([*words, f"{rest:#x}"] if rest else words)


def socket_constant(code: int, value: int) -> str | None:
    """Returns the name of a load's offset that means the packet's metadata."""
    if code & 7 != 0 or code & 0xE0 not in (0x20, 0x40):
        return None
    for base, name in ((0xFFFFF000, "SKF_AD_OFF"), (0xFFF00000, "SKF_NET_OFF"), (0xFFE00000, "SKF_LL_OFF")):
        if value >= base:
            if not (offset := value - base) and name != "SKF_AD_OFF":
                return name
            if name == "SKF_AD_OFF":
                word = _ANCILLARY[offset // 4] if not offset % 4 and offset // 4 < len(_ANCILLARY) else hex_or_0(offset)
                return f"{name}+{word}"
            return f"{name}+{hex_or_0(offset)}"
    return None


def _seccomp_constant(code: int, value: int) -> str | None:
    if code & 7 != 6 or code & 0x18:
        return None
    action, data = value & 0xFFFF0000, value & 0xFFFF
    word = _ACTIONS.get(action)
    if word is None:
        return f"{hex_or_0(action)} /* SECCOMP_RET_??? */" + (f"|{data:#x}" if data else "")
    return f"{word}|{data:#x}" if data else word


def _program(argument: Argument, constant: Callable[[int, int], str | None]) -> str | None:
    """struct sock_fprog: ``{len=4, filter=[BPF_STMT(...), BPF_JUMP(...)]}``."""
    size = argument.long_size
    length, address = argument.number(2), argument.number(size, size)
    if length is None or address is None:
        return None
    return f"{{len={length}, filter={instructions(argument, address, length, constant)}}}"


def instructions(
    argument: Argument, address: int, length: int, constant: Callable[[int, int], str | None]
) -> str:
    """Returns ``[BPF_STMT(BPF_RET|BPF_K, 0)]``; the address without -v. ``constant``: what an operand means."""
    if not address:
        return "NULL"
    if not argument.options.verbose:
        return hexadecimal(address)
    if not length:
        return "[]"
    words = []
    for index in range(length):
        at = argument.at(address + 8 * index)
        data = at.read(8)
        if index >= _MOST:
            words.append("...")
            break
        if data is None:
            if not words:
                return hexadecimal(address)
            words.append(f"... /* {hexadecimal(at.value)} */")
            break
        code, value = int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "little")
        shown = constant(code, value) or hex_or_0(value)
        if data[2] or data[3]:
            words.append(f"BPF_JUMP({_code_text(code)}, {shown}, {hex_or_0(data[2])}, {hex_or_0(data[3])})")
        else:
            words.append(f"BPF_STMT({_code_text(code)}, {shown})")
    return f"[{', '.join(words)}]"


def socket_filter(argument: Argument) -> str | None:
    """Returns a struct sock_fprog of a socket."""
    return _program(argument, socket_constant)


def seccomp_filter(argument: Argument) -> str | None:
    """Returns a struct sock_fprog of seccomp(2)."""
    return _program(argument, _seccomp_constant)


KINDS: Kinds = {"seccomp_filter": Kind(seccomp_filter, FILTER), "socket_filter": Kind(socket_filter, FILTER)}
