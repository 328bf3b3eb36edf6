"""Netlink: messages of rtnetlink, sock_diag and generic netlink, with their attributes.

Layouts: include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, inet_diag.h, unix_diag.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from insitu.syscalls.argument import Argument
from insitu.syscalls.kinds.layout import Struct, hex_or_0, interface
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.sockets import ipv4, ipv6, mac
from insitu.syscalls.kinds.strings import quoted

__all__ = ["netlink_messages"]

_MESSAGE_MAX: Final = 1 << 16
_SHOWN: Final = 32
_DEEPEST: Final = 8
"""Nested attributes: deeper ones are shown as bytes."""
_HEADER: Final = 16
_ERROR, _DONE = 2, 3
_CAPPED: Final = 0x100
_ACK_ATTRIBUTES: Final = 0x200

_AF_INET, _AF_INET6 = 2, 10

Value = Callable[[Argument, bytes, int], str | None]
"""(argument, bytes of an attribute, family) -> text."""


class _Attributes(NamedTuple):
    """Attributes of a kind of message: names of their types, how each is shown."""

    names: str
    unknown: str
    values: Mapping[int, Value]


class _Body(NamedTuple):
    """What follows the header: a structure, and attributes."""

    struct: Struct
    attributes: _Attributes | None = None


def _number(size: int, *, signed: bool = False, hexed: bool = False) -> Value:
    def text(argument: Argument, data: bytes, family: int) -> str | None:
        if len(data) < size:
            return None
        value = int.from_bytes(data[:size], "little", signed=signed)
        return hex_or_0(value) if hexed else str(value)

    return text


def _words(set_name: str, size: int, *, flags: bool = False, unknown: str = "") -> Value:
    def text(argument: Argument, data: bytes, family: int) -> str | None:
        if len(data) < size:
            return None
        value = int.from_bytes(data[:size], "little")
        return (flags_text if flags else enum_text)(argument, set_name, value, unknown)

    return text


def _string(argument: Argument, data: bytes, family: int) -> str | None:
    limit = argument.options.string_limit
    text, nul, _ = data.partition(b"\0")
    return quoted(text[:limit], argument.options.strings_in_hex) + ("" if nul and len(text) <= limit else "...")


def _interface(argument: Argument, data: bytes, family: int) -> str | None:
    return interface(int.from_bytes(data[:4], "little")) if len(data) >= 4 else None


def _hardware(argument: Argument, data: bytes, family: int) -> str | None:
    return mac(data) if data else None


def _address(argument: Argument, data: bytes, family: int) -> str | None:
    if family == _AF_INET and len(data) >= 4:
        return ipv4(data[:4])
    if family == _AF_INET6 and len(data) >= 16:
        return f'inet_pton(AF_INET6, "{ipv6(data[:16])}")'
    return None


def _struct(declaration: str) -> Value:
    struct = Struct(declaration)
    return lambda argument, data, family: struct.text(argument, data) if len(data) >= struct.size() else None


def _nested(attributes: _Attributes) -> Value:
    return lambda argument, data, family: _attributes_text(argument, data, attributes, family, 1)


_STATS: Final = (
    "rx_packets {0}; tx_packets {0}; rx_bytes {0}; tx_bytes {0}; rx_errors {0}; tx_errors {0}; rx_dropped {0}; "
    "tx_dropped {0}; multicast {0}; collisions {0}; rx_length_errors {0}; rx_over_errors {0}; rx_crc_errors {0}; "
    "rx_frame_errors {0}; rx_fifo_errors {0}; rx_missed_errors {0}; tx_aborted_errors {0}; tx_carrier_errors {0}; "
    "tx_fifo_errors {0}; tx_heartbeat_errors {0}; tx_window_errors {0}; rx_compressed {0}; tx_compressed {0}; "
    "rx_nohandler {0}"
)
_u8, _u16, _u32 = _number(1), _number(2), _number(4)

_LINK_INFO: Final = _Attributes("link_info_attribute", "IFLA_INFO_???", {1: _string, 4: _string})
_XDP: Final = _Attributes(
    "ifla_xdp", "IFLA_XDP_???", {1: _number(4, signed=True), 2: _words("xdp_attached", 1), 4: _u32}
)
_LINK: Final = _Attributes(
    "link_attribute",
    "IFLA_???",
    {
        1: _hardware, 2: _hardware, 3: _string, 4: _u32, 5: _u32, 6: _string, 7: _struct(_STATS.format("u32")),
        10: _interface,
        13: _u32,
        14: _struct("mem_start u64; mem_end u64; base_addr u64; irq u16; dma u8; port u8"),
        15: _u32, 16: _u8, 17: _u8, 18: _nested(_LINK_INFO), 20: _string, 21: _u32,
        23: _struct(_STATS.format("u64") + "; rx_otherhost_dropped u64"), 27: _u32, 30: _u32, 31: _u32, 32: _u32, 33: _u8, 35: _u32, 37: _number(4, signed=True),
        38: _string, 39: _u8, 40: _u32, 41: _u32, 43: _nested(_XDP), 47: _u32, 48: _u32, 49: _number(4, signed=True), 50: _u32,
        51: _u32, 53: _string, 54: _hardware, 56: _string, 57: _string, 58: _u32, 59: _u32, 60: _u32, 61: _u32,
    },
)  # fmt: skip
_IFADDR: Final = _Attributes(
    "address_attribute",
    "IFA_???",
    {
        1: _address, 2: _address, 3: _string, 4: _address, 5: _address,
        6: _struct("ifa_prefered u32; ifa_valid u32; cstamp u32; tstamp u32"), 7: _address,
        8: _words("address_flags", 4, flags=True, unknown="IFA_F_???"), 9: _u32, 10: _number(4, signed=True), 11: _u8,
    },
)  # fmt: skip
_METRICS: Final = _Attributes("route_metric", "RTAX_???", dict.fromkeys(range(1, 16), _u32) | {16: _string, 17: _u32})
_ROUTE: Final = _Attributes(
    "route_attribute",
    "RTA_???",
    {
        1: _address, 2: _address, 3: _interface, 4: _interface, 5: _address, 6: _u32, 7: _address, 8: _nested(_METRICS),
        11: _u32, 12: _struct("rta_clntref u32; rta_lastuse u32; rta_expires u32; rta_error u32; rta_used u32; "
                    "rta_id x32; rta_ts u32; rta_tsage u32"),
        15: _words("route_table", 4), 16: _u32, 19: _address, 20: _u8, 25: _u32, 26: _u8, 30: _u32,
    },
)  # fmt: skip
_NEIGHBOUR: Final = _Attributes(
    "neighbour_attribute",
    "NDA_???",
    {1: _address, 2: _hardware,
     3: _struct("ndm_confirmed u32; ndm_used u32; ndm_updated u32; ndm_refcnt u32"), 4: _u32, 5: _u16, 7: _u32, 8: _interface,
     9: _interface},
)  # fmt: skip
_UNIX: Final = _Attributes(
    "unix_diag_attribute", "UNIX_DIAG_???",
    {0: _string, 1: _struct("udiag_vfs_dev u32; udiag_vfs_ino u32"), 2: _u32, 4: _struct("udiag_rqueue u32; udiag_wqueue u32"),
     6: _u8, 7: _u32},
)  # fmt: skip
_ERRORS: Final = _Attributes("netlink_error_attribute", "NLMSGERR_ATTR_???", {1: _string, 2: _u32})

_LINK_BODY: Final = _Body(
    Struct(
        "ifi_family enum8(socket_family, AF_???); pad1; ifi_type enum16(arp_hardware, ARPHRD_???); ifi_index if32; "
        "ifi_flags flags32(interface_flags, IFF_???); ifi_change flags32(interface_flags, IFF_???)"
    ),
    _LINK,
)
_ADDRESS_BODY: Final = _Body(
    Struct(
        "ifa_family enum8(socket_family, AF_???); ifa_prefixlen u8; ifa_flags flags8(address_flags, IFA_F_???); "
        "ifa_scope enum8(route_scope); ifa_index if32"
    ),
    _IFADDR,
)
_ROUTE_BODY: Final = _Body(
    Struct(
        "rtm_family enum8(socket_family, AF_???); rtm_dst_len u8; rtm_src_len u8; rtm_tos u8; rtm_table enum8(route_table); "
        "rtm_protocol enum8(route_protocol, RTPROT_???); rtm_scope enum8(route_scope); rtm_type enum8(route_type, RTN_???); "
        "rtm_flags flags32(route_flags, RTM_F_???)"
    ),
    _ROUTE,
)
_NEIGHBOUR_BODY: Final = _Body(
    Struct(
        "ndm_family enum8(socket_family, AF_???); pad1; pad2; ndm_ifindex if32; ndm_state flags16(neighbour_state, NUD_???); "
        "ndm_flags flags8(neighbour_flags, NTF_???); ndm_type enum8(route_type, RTN_???)"
    ),
    _NEIGHBOUR,
)
_RTNETLINK: Final[dict[int, _Body]] = {4: _LINK_BODY, 5: _ADDRESS_BODY, 6: _ROUTE_BODY, 7: _NEIGHBOUR_BODY}
"""By (type of message) >> 2: NEW, DEL, GET and SET of one thing follow each other."""


def netlink_messages(argument: Argument, address: int, length: int, protocol: str) -> str | None:
    """Returns ``[{nlmsg_len=20, nlmsg_type=RTM_GETLINK, ...}, {...}]`` of a buffer; None where it is not known."""
    data = argument.memory.read(address, min(length, _MESSAGE_MAX))
    if data is None:
        return None
    if length < _HEADER:
        return _raw(argument, data)
    if len(data) < _HEADER:
        return None
    words: list[str] = []
    at = 0
    while length - at >= _HEADER and at + _HEADER <= len(data):
        if len(words) >= _SHOWN and not argument.options.verbose:
            words.append("...")
            break
        claimed = int.from_bytes(data[at : at + 4], "little")
        part = data[at : at + max(claimed, _HEADER)]
        words.append(_message(argument, part, protocol))
        if claimed < _HEADER:
            break
        at += -(-claimed // 4) * 4
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


def _type_text(argument: Argument, kind: int, protocol: str) -> str:
    if kind < 16:
        return enum_text(argument, "netlink_message", kind, "NLMSG_???")
    set_name = {"ROUTE": "rtnetlink", "SOCK_DIAG": "sock_diag", "GENERIC": "genl_family"}.get(protocol)
    if set_name is None:
        return enum_text(argument, "netlink_message", kind, "NLMSG_???")
    unknown = {"ROUTE": "RTM_???", "SOCK_DIAG": "SOCK_DIAG_???", "GENERIC": ""}[protocol]
    return enum_text(argument, set_name, kind, unknown)


def _flags(argument: Argument, kind: int, flags: int, protocol: str) -> str:
    """The upper bits mean something else with each kind of message (include/uapi/linux/netlink.h)."""
    extra = None
    if kind == _ERROR:
        extra = "netlink_ack_flags"
    elif kind == _DONE:
        extra = None
    elif protocol == "ROUTE":
        extra = {0: "netlink_new_flags", 1: "netlink_delete_flags", 2: "netlink_get_flags"}.get(kind & 3)
    elif protocol == "SOCK_DIAG":
        extra = "netlink_get_flags"
    elif protocol == "GENERIC":
        extra = "netlink_get_flags" if kind == 16 else None
    low = flags & 0xFF if extra else flags
    words = flags_text(argument, "netlink_flags", low, "NLM_F_???") if low or not extra else ""
    if extra and flags & ~0xFF:
        upper = flags_text(argument, extra, flags & ~0xFF, "" if words else "NLM_F_???")
        words = f"{words}|{upper}" if words else upper
    return words or "0"


def _message(argument: Argument, data: bytes, protocol: str) -> str:
    length, kind, flags = (int.from_bytes(data[at : at + size], "little") for at, size in ((0, 4), (4, 2), (6, 2)))
    sequence, pid = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    header = (
        f"{{nlmsg_len={length}, nlmsg_type={_type_text(argument, kind, protocol)}, "
        f"nlmsg_flags={_flags(argument, kind, flags, protocol)}, nlmsg_seq={sequence}, nlmsg_pid={pid}}}"
    )
    body = data[_HEADER : max(length, _HEADER)]
    if not body:
        return f"{header}" if length <= _HEADER else header
    text = _body(argument, kind, flags, body, protocol)
    return f"[{header}, {text}]"


def _body(argument: Argument, kind: int, flags: int, data: bytes, protocol: str) -> str:
    if kind == _ERROR and len(data) >= 4:
        error = int.from_bytes(data[:4], "little", signed=True)
        word = f"-{argument.facts.errno_name(-error)}" if error < 0 else str(error)
        text = f"{{error={word}"
        rest = data[4:]
        if len(rest) >= _HEADER:
            capped = flags & _CAPPED
            original = rest[:_HEADER] if capped else rest[: max(int.from_bytes(rest[:4], "little"), _HEADER)]
            if int.from_bytes(original[4:6], "little") == _ERROR:
                text += f", msg={quoted(rest, argument.options.strings_in_hex)}"
                return text + "}"
            shown = _message(argument, original, protocol)
            text += f", msg={shown}}}"
            after = rest[-(-len(original) // 4) * 4 :]
            if flags & _ACK_ATTRIBUTES and after:
                return f"{text}, {_attributes_text(argument, after, _ERRORS, 0, 1)}"
            return f"[{text}, {_raw(argument, rest[len(original) :])}]" if rest[len(original) :] else text
        return text + "}"
    if kind == _DONE:
        return str(int.from_bytes(data[:4], "little", signed=True)) if len(data) >= 4 else _raw(argument, data)
    if protocol == "ROUTE":
        return _route(argument, kind, data)
    if protocol == "SOCK_DIAG" and kind == 20:
        return _diagnosis(argument, flags, data)
    return _raw(argument, data)


def _route(argument: Argument, kind: int, data: bytes) -> str:
    body = _RTNETLINK.get(kind >> 2)
    family = enum_text(argument, "socket_family", data[0], "AF_???")
    size = body.struct.size() if body is not None else 1
    if body is None or len(data) < size:
        rest = data[1:]
        word = {4: "ifi_family", 5: "ifa_family", 6: "rtm_family", 7: "ndm_family"}.get(kind >> 2, "family")
        return f"{{{word}={family}{', ...' if body is not None else ', ' + _raw(argument, rest) if rest else ''}}}"
    words = [body.struct.text(argument, data[:size]) or ""]
    rest = data[-(-size // 4) * 4 :]
    if rest and body.attributes is not None:
        words.append(_attributes_text(argument, rest, body.attributes, data[0], 1))
    return ", ".join(words)


def _raw(argument: Argument, data: bytes) -> str:
    limit = argument.options.string_limit
    return quoted(data[:limit], "all") + ("..." if len(data) > limit else "")


def _attributes_text(argument: Argument, data: bytes, attributes: _Attributes, family: int, depth: int) -> str:
    """Returns ``[[{nla_len=7, nla_type=IFLA_IFNAME}, "lo"], ...]``; without the outer brackets if there is one."""
    words: list[str] = []
    at = 0
    while at + 4 <= len(data):
        if len(words) >= _SHOWN and not argument.options.verbose:
            words.append("...")
            break
        length, kind = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")
        name = _attribute_name(argument, kind, attributes)
        header = f"{{nla_len={length}, nla_type={name}}}"
        payload = data[at + 4 : at + max(length, 4)]
        if payload:
            decode = attributes.values.get(kind & 0x3FFF)
            text = decode(argument, payload, family) if decode is not None and depth < _DEEPEST else None
            words.append(f"[{header}, {_raw(argument, payload) if text is None else text}]")
        else:
            words.append(header)
        if length < 4:
            break
        at += -(-length // 4) * 4
    if not words:
        return _raw(argument, data)
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


def _attribute_name(argument: Argument, kind: int, attributes: _Attributes) -> str:
    flags = kind & 0xC000
    word = enum_text(argument, attributes.names, kind & 0x3FFF, attributes.unknown)
    return f"{flags_text(argument, 'nla_flags', flags)}|{word}" if flags else word


_UNIX_REQUEST: Final = Struct(
    "sdiag_family enum8(socket_family, AF_???); sdiag_protocol u8; pad2; udiag_states tcpstates32; udiag_ino u32; "
    "udiag_show flags32(unix_diag_show, UDIAG_SHOW_???); udiag_cookie u32[2]"
)
_UNIX_ANSWER: Final = Struct(
    "udiag_family enum8(socket_family, AF_???); udiag_type enum8(socket_type, SOCK_???); udiag_state enum8(tcp_state, TCP_???); "
    "pad1; udiag_ino u32; udiag_cookie u32[2]"
)


def _diagnosis(argument: Argument, flags: int, data: bytes) -> str:
    family = data[0]
    if family == 1:
        struct = _UNIX_REQUEST if flags & 1 else _UNIX_ANSWER
        size = struct.size()
        if len(data) >= size:
            text = struct.text(argument, data[:size]) or ""
            rest = data[size:]
            return f"{text}, {_attributes_text(argument, rest, _UNIX, 1, 1)}" if rest else text
    word = enum_text(argument, "socket_family", family, "AF_???")
    rest = data[1:]
    return f"{{sdiag_family={word}" + (f", {_raw(argument, rest)}" if rest else "") + "}"
