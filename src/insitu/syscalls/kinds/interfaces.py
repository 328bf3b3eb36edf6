"""ioctl(2) of network interfaces: struct ifreq and ifconf (include/uapi/linux/if.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, hexadecimal
from insitu.syscalls.kinds.layout import Struct, c_string
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.sockets import address_text, mac

__all__ = ["IFREQ", "IFREQ_PARTS", "ifconf", "ifreq"]

IFREQ: Final = 40
"""Bytes of a struct ifreq of 64-bit programs."""
_GIFNAME: Final = 0x8910


def ifreq(part: str) -> Callable[[Argument], str | None]:
    """Returns what shows a struct ifreq: its name is given, ``part`` is what a request reads (at exit) or sets."""

    def text(argument: Argument) -> str | None:
        request = argument.other(1) & 0xFFFFFFFF
        sets = request in _IFREQ_SET
        failed = not sets and argument.call.failed
        if argument.at_exit == (sets or failed):
            return None
        data = argument.read(IFREQ if argument.long_size == 8 else 32)
        before = argument.call.enter.memory.read(argument.value, 16) if argument.at_exit else data
        if data is None or before is None:
            return None
        name = c_string(argument, before[:16])
        if failed and request != _GIFNAME:
            return f"{{ifr_name={name}}}"
        if request == _GIFNAME:
            index = int.from_bytes(data[16:20], "little", signed=True)
            return f"{{ifr_ifindex={index}, ifr_name={c_string(argument, data[:16])}}}"
        return f"{{ifr_name={name}, {_ifreq_part(argument, part, data)}}}"

    return text


def _ifreq_part(argument: Argument, part: str, data: bytes) -> str:
    if part in ("ifr_addr", "ifr_dstaddr", "ifr_broadaddr", "ifr_netmask"):
        return f"{part}={address_text(argument, data[16:32], 16)}"
    if part == "ifr_hwaddr":
        family = int.from_bytes(data[16:18], "little")
        text = enum_text(argument, "arp_hardware", family, "ARPHRD_???")
        return f"ifr_hwaddr={{sa_family={text}, sa_data={mac(data[18:24])}}}"
    if part == "ifr_flags":
        return f"ifr_flags={flags_text(argument, 'interface_flags', int.from_bytes(data[16:18], 'little'))}"
    if part == "ifr_map":
        return "ifr_map=" + (_MAP.text(argument, data[16:]) or "")
    if part == "ifr_slave":
        return f"ifr_slave={c_string(argument, data[16:32])}"
    part = "ifr_ifindex" if part == "ifr_index" else part
    return f"{part}={int.from_bytes(data[16:20], 'little', signed=True)}"


_MAP: Final = Struct("mem_start xlong; mem_end xlong; base_addr x16; irq x8; dma x8; port x8")
IFREQ_PARTS: Final = {
    0x8910: "ifr_name", 0x8933: "ifr_index", 0x8913: "ifr_flags", 0x8914: "ifr_flags", 0x8915: "ifr_addr",
    0x8916: "ifr_addr", 0x8917: "ifr_dstaddr", 0x8918: "ifr_dstaddr", 0x8919: "ifr_broadaddr",
    0x891A: "ifr_broadaddr",
    0x891B: "ifr_netmask", 0x891C: "ifr_netmask", 0x891D: "ifr_metric", 0x891E: "ifr_metric", 0x8921: "ifr_mtu",
    0x8922: "ifr_mtu", 0x8927: "ifr_hwaddr", 0x8924: "ifr_hwaddr", 0x8929: "ifr_slave", 0x8930: "ifr_slave",
    0x8942: "ifr_qlen", 0x8943: "ifr_qlen", 0x8970: "ifr_map", 0x8971: "ifr_map",
}  # fmt: skip
"""Which member each request reads or sets."""
_IFREQ_SET: Final = (0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8922, 0x8924, 0x8930, 0x8943, 0x8971)


def _requests(length: int) -> str:
    return f"{length}" if length % IFREQ else f"{length} /* {length // IFREQ} * sizeof(struct ifreq) */"


def ifconf(argument: Argument) -> str | None:
    """Returns a struct ifconf with the interfaces that the kernel has put into its buffer."""
    if not argument.at_exit:
        return None
    size = argument.long_size
    length, address = argument.number(4, signed=True), argument.number(size, size)
    before = argument.call.enter.memory.read(argument.value, 4)
    if length is None or address is None or before is None:
        return None
    room = int.from_bytes(before, "little", signed=True)
    shown = f"{_requests(room)} => {_requests(length)}" if room != length else _requests(length)
    if not address:
        return f"{{ifc_len={shown}, ifc_buf=NULL}}"
    words = []
    for at in range(0, min(length, 4096) - 39, 40):
        data = argument.at(address + at).read(40)
        if data is None:
            return f"{{ifc_len={shown}, ifc_buf={hexadecimal(address)}}}"
        words.append(
            f"{{ifr_name={c_string(argument, data[:16])}, ifr_addr={address_text(argument, data[16:32], 16)}}}"
        )
    return f"{{ifc_len={shown}, ifc_buf=[{', '.join(words)}]}}"
