"""Options of sockets, by level and option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.layout import Struct, c_string, interface
from insitu.syscalls.kinds.numbers import enum_text
from insitu.syscalls.kinds.sockets import ipv4, ipv6
from insitu.syscalls.kinds.strings import quoted

__all__ = ["KINDS"]

_SOCKET, _IP, _TCP, _UDP, _IPV6, _ICMPV6, _RAW, _PACKET, _NETLINK = 1, 0, 6, 17, 41, 58, 255, 263, 270

_SETS: Final = {
    _TCP: "tcp_option",
    _UDP: "udp_option",
    40: "vsock_option",
    _IPV6: "ipv6_option",
    _ICMPV6: "icmpv6_option",
    101: "can_raw_option",
    132: "sctp_option",
    136: "udp_option",
    _RAW: "raw_option",
    _PACKET: "packet_option",
    _NETLINK: "netlink_option",
    271: "tipc_option",
    274: "bluetooth_option",
    279: "alg_option",
    282: "tls_option",
    283: "xdp_option",
}
"""Names of options by level."""


def _setting(argument: Argument) -> bool:
    call = argument.facts.calls.get(argument.call.enter.nr)
    return call is not None and call.name == "setsockopt"


def _option(argument: Argument) -> str:
    level, value = argument.other(1) & 0xFFFFFFFF, argument.value & 0xFFFFFFFF
    way = "set" if _setting(argument) else "get"
    if level == _SOCKET:
        return enum_text(argument, f"sock_option_{way}", value, "SO_???")
    if level == _IP:
        return enum_text(argument, f"ip_option_{way}", value, "IP_???")
    names = _SETS.get(level)
    return f"{value:#x}" if names is None and value else "0" if names is None else enum_text(argument, names, value)


Option = Callable[[Argument, bytes, int], str | None]
"""(argument, value's bytes, their claimed length) -> text."""


def _struct(declaration: str) -> Option:
    struct = Struct(declaration)

    def text(argument: Argument, data: bytes, length: int) -> str | None:
        return struct.text(argument, data) if length >= struct.size(argument.long_size) else None

    return text


def _membership(argument: Argument, data: bytes, length: int) -> str | None:
    if length < 8 or len(data) < 8:
        return None
    words = [f"imr_multiaddr={ipv4(data[:4])}"]
    if length >= 12 and len(data) >= 12:
        index = int.from_bytes(data[8:12], "little", signed=True)
        words += [f"imr_address={ipv4(data[4:8])}", f"imr_ifindex={interface(index)}"]
    else:
        words.append(f"imr_interface={ipv4(data[4:8])}")
    return "{" + ", ".join(words) + "}"


def _membership6(argument: Argument, data: bytes, length: int) -> str | None:
    if length < 20 or len(data) < 20:
        return None
    index = int.from_bytes(data[16:20], "little", signed=True)
    return f'{{inet_pton(AF_INET6, "{ipv6(data[:16])}", &ipv6mr_multiaddr), ipv6mr_interface={interface(index)}}}'


def _text(argument: Argument, data: bytes, length: int) -> str | None:
    return None


def _filter(argument: Argument, data: bytes, length: int) -> str | None:
    """struct sock_fprog: at entry, with the program that it points to."""
    from insitu.syscalls.kinds.filters import socket_filter

    return socket_filter(argument) if length >= 2 * argument.long_size else None


def _interface_name(argument: Argument, data: bytes, length: int) -> str | None:
    limit = argument.options.string_limit
    text = data[:length].partition(b"\0")[0]
    return quoted(text[:limit], argument.options.strings_in_hex) + ("..." if len(text) > limit else "")


def _numbers(argument: Argument, data: bytes, length: int) -> str | None:
    """List of 32-bit numbers in hexadecimal."""
    words = [f"{int.from_bytes(data[at : at + 4], 'little'):#x}" for at in range(0, len(data) - 3, 4)]
    return f"[{', '.join(words)}]"


_CREDENTIALS: Final = _struct("pid int; uid id; gid id")
_LINGER: Final = _struct("l_onoff int; l_linger int")
_BOTH: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 13): _LINGER,
    (_IP, 35): _membership,
    (_IP, 36): _membership,
    (_IPV6, 20): _membership6,
    (_IPV6, 21): _membership6,
    (_IPV6, 27): _membership6,
    (_IPV6, 28): _membership6,
}
_SET: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 26): _filter,
    (_SOCKET, 51): _filter,
    (_PACKET, 1): _struct("mr_ifindex if32; mr_type enum16(packet_membership); mr_alen u16; mr_address bytes8"),
    (_PACKET, 2): _struct("mr_ifindex if32; mr_type enum16(packet_membership); mr_alen u16; mr_address bytes8"),
    (_PACKET, 5): _struct("tp_block_size u32; tp_block_nr u32; tp_frame_size u32; tp_frame_nr u32"),
    (_PACKET, 13): _struct("tp_block_size u32; tp_block_nr u32; tp_frame_size u32; tp_frame_nr u32"),
}
_GET: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 17): _CREDENTIALS,
    (_PACKET, 6): _struct("packets x32; drops x32"),
}


def _value(argument: Argument) -> str | None:
    level, option = argument.other(1) & 0xFFFFFFFF, argument.other(2) & 0xFFFFFFFF
    setting = _setting(argument)
    count = argument.count
    if count is None:
        return None
    length = (count & 0xFFFFFFFF) - (1 << 32 if count & 0x80000000 else 0)
    if length < 0:
        return None
    data = argument.memory.read(argument.value, min(length, 4096)) if length else b""
    if data is None:
        return None
    decode = _BOTH.get((level, option)) or (_SET if setting else _GET).get((level, option))
    if decode is not None:
        text = decode(argument, data, length)
        if text is not None:
            return text
    if length == 4 and len(data) >= 4:
        return f"[{int.from_bytes(data[:4], 'little', signed=True)}]"
    limit = argument.options.string_limit
    if len(data) < min(length, limit):
        return None
    return quoted(data[:limit], argument.options.strings_in_hex) + ("..." if length > limit else "")


KINDS: Kinds = {
    "sock_option": Kind(_option),
    "sock_value": Kind(_value, Bytes(1)),
}
