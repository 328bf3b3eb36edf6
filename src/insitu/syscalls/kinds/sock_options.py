"""Options of sockets, by level and option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.capture import Bytes, Choice
from insitu.syscalls.kinds.filters import FILTER, classic_instructions, socket_constant, socket_filter
from insitu.syscalls.kinds.layout import Struct, interface
from insitu.syscalls.kinds.numbers import enum_text
from insitu.syscalls.kinds.sockets import ipv4, ipv6, mac
from insitu.syscalls.kinds.strings import quoted

__all__ = ["KINDS"]

_SOCKET, _IP, _TCP, _UDP, _IPV6, _ICMPV6, _RAW, _PACKET, _NETLINK = 1, 0, 6, 17, 41, 58, 255, 263, 270

_SETS: Final = {
    _TCP: "sockopt_tcp",
    _UDP: "sockopt_udp",
    40: "sockopt_vsock",
    _IPV6: "sockopt_ipv6",
    _ICMPV6: "sockopt_icmpv6",
    101: "sockopt_can_raw",
    132: "sockopt_sctp",
    136: "sockopt_udp",
    _RAW: "sockopt_raw",
    _PACKET: "sockopt_packet",
    _NETLINK: "sockopt_netlink",
    271: "tipc_option",
    274: "sockopt_bluetooth",
    279: "sockopt_alg",
    282: "sockopt_tls",
    283: "sockopt_xdp",
}
"""Names of options by level."""


def _setting(argument: Argument) -> bool:
    call = argument.facts.calls.get(argument.call.enter.nr)
    return call is not None and call.name == "setsockopt"


def _option(argument: Argument) -> str:
    level, value = argument.other(1) & 0xFFFFFFFF, argument.value & 0xFFFFFFFF
    way = "set" if _setting(argument) else "get"
    if level == _SOCKET:
        own = argument.facts.constant(f"sockopt_socket_{way}", value) is not None
        return enum_text(argument, f"sockopt_socket_{way}" if own else "sockopt_socket", value, "SO_???")
    if level == _IP:
        return enum_text(argument, f"ip_option_{way}", value, "IP_???")
    names = _SETS.get(level)
    return str(value) if names is None else enum_text(argument, names, value)


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
    return f"{{imr_multiaddr={ipv4(data[:4])}, imr_interface={ipv4(data[4:8])}}}"


def _packet_membership(argument: Argument, data: bytes, length: int) -> str | None:
    if length < 16 or len(data) < 16:
        return None
    kind, octets = int.from_bytes(data[4:6], "little"), int.from_bytes(data[6:8], "little")
    return (
        f"{{mr_ifindex={interface(int.from_bytes(data[:4], 'little'))}, "
        f"mr_type={enum_text(argument, 'packet_mreq', kind)}, mr_alen={octets}, "
        f"mr_address={mac(data[8 : 8 + min(octets, 8)])}}}"
    )


def _membership6(argument: Argument, data: bytes, length: int) -> str | None:
    if length < 20 or len(data) < 20:
        return None
    index = int.from_bytes(data[16:20], "little", signed=True)
    return f'{{inet_pton(AF_INET6, "{ipv6(data[:16])}", &ipv6mr_multiaddr), ipv6mr_interface={interface(index)}}}'


def _filter(argument: Argument, data: bytes, length: int) -> str | None:
    """struct sock_fprog: at entry, with the program that it points to."""
    return socket_filter(argument) if length >= 2 * argument.long_size else None


def _attached(argument: Argument, data: bytes, length: int) -> str | None:
    """What SO_GET_FILTER returns: as many instructions as the length says."""
    return classic_instructions(argument, argument.value, length, socket_constant) if length else None


def _string(argument: Argument, data: bytes, length: int) -> str | None:
    limit = argument.options.string_limit
    return quoted(data[:limit], argument.options.strings_in_hex) + ("..." if length > limit else "")


def _icmp_filter(argument: Argument, data: bytes, length: int) -> str | None:
    if length < 4 or len(data) < 4:
        return None
    value = int.from_bytes(data[:4], "little")
    names = {each.value: each.name for each in argument.facts.constants("icmp_filter")}
    return "[" + " ".join(names.get(bit, str(bit)) for bit in range(32) if value >> bit & 1) + "]"


_CREDENTIALS: Final = _struct("pid int; uid id; gid id")
_LINGER: Final = _struct("l_onoff int; l_linger int")
_BOTH: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 13): _LINGER,
    (_RAW, 1): _icmp_filter,
    (_IP, 35): _membership,
    (_IP, 36): _membership,
    (_IPV6, 20): _membership6,
    (_IPV6, 21): _membership6,
    (_IPV6, 27): _membership6,
    (_IPV6, 28): _membership6,
}
_SET: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 25): _string,
    (_SOCKET, 26): _filter,
    (_SOCKET, 51): _filter,
    (_PACKET, 1): _packet_membership,
    (_PACKET, 2): _packet_membership,
    (_PACKET, 5): _struct("tp_block_size u32; tp_block_nr u32; tp_frame_size u32; tp_frame_nr u32"),
    (_PACKET, 13): _struct("tp_block_size u32; tp_block_nr u32; tp_frame_size u32; tp_frame_nr u32"),
}
_GET: Final[dict[tuple[int, int], Option]] = {
    (_SOCKET, 17): _CREDENTIALS,
    (_SOCKET, 26): _attached,
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
        return decode(argument, data, length)
    if setting and length < 4:
        return None
    if length == 4 and len(data) >= 4:
        return f"[{int.from_bytes(data[:4], 'little', signed=True)}]"
    limit = argument.options.string_limit
    if len(data) < min(length, limit):
        return None
    return quoted(data[:limit], argument.options.strings_in_hex) + ("..." if length > limit else "")


KINDS: Kinds = {
    "sock_option": Kind(_option),
    "sock_value": Kind(_value, Choice(2, ((26, Bytes(8)),), Bytes(1))),
    "sock_value_set": Kind(_value, Choice(2, ((26, FILTER), (51, FILTER)), Bytes(1))),
}
