"""Netlink: messages of rtnetlink, sock_diag and generic netlink, with their attributes.

Layouts: include/uapi/linux/netlink.h, rtnetlink.h, if_addr.h, neighbour.h, inet_diag.h, unix_diag.h.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from insitu.syscalls.argument import Argument
from insitu.syscalls.kinds.layout import Struct
from insitu.syscalls.kinds.netlink_attributes import (
    ADDRESS,
    ERROR,
    LINK,
    NEIGHBOUR,
    ROUTE,
    UNIX,
    Attributes,
    attributes_text,
    raw_text,
)
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted

__all__ = ["netlink_messages"]

_MESSAGE_MAX: Final = 1 << 16
_SHOWN: Final = 32
_HEADER: Final = 16
_ERROR, _DONE = 2, 3
_CAPPED: Final = 0x100
_ACK_ATTRIBUTES: Final = 0x200


class _Body(NamedTuple):
    """What follows the header: a structure, and attributes."""

    struct: Struct
    attributes: Attributes | None = None


_LINK_BODY: Final = _Body(
    Struct(
        "ifi_family enum8(socket_family, AF_???); pad1; ifi_type enum16(arp_hardware, ARPHRD_???); ifi_index if32; "
        "ifi_flags flags32(interface_flags, IFF_???); ifi_change flags32(interface_flags, IFF_???)"
    ),
    LINK,
)
_ADDRESS_BODY: Final = _Body(
    Struct(
        "ifa_family enum8(socket_family, AF_???); ifa_prefixlen u8; ifa_flags flags8(address_flags, IFA_F_???); "
        "ifa_scope enum8(route_scope); ifa_index if32"
    ),
    ADDRESS,
)
_ROUTE_BODY: Final = _Body(
    Struct(
        "rtm_family enum8(socket_family, AF_???); rtm_dst_len u8; rtm_src_len u8; rtm_tos u8; "
        "rtm_table enum8(route_table); rtm_protocol enum8(route_protocol, RTPROT_???); "
        "rtm_scope enum8(route_scope); rtm_type enum8(route_type, RTN_???); "
        "rtm_flags flags32(route_flags, RTM_F_???)"
    ),
    ROUTE,
)
_NEIGHBOUR_BODY: Final = _Body(
    Struct(
        "ndm_family enum8(socket_family, AF_???); pad1; pad2; ndm_ifindex if32; "
        "ndm_state flags16(neighbour_state, NUD_???); ndm_flags flags8(neighbour_flags, NTF_???); "
        "ndm_type enum8(route_type, RTN_???)"
    ),
    NEIGHBOUR,
)
_RTNETLINK: Final[dict[int, _Body]] = {4: _LINK_BODY, 5: _ADDRESS_BODY, 6: _ROUTE_BODY, 7: _NEIGHBOUR_BODY}
"""By (type of message) >> 2: NEW, DEL, GET and SET of one thing follow each other."""


def netlink_messages(argument: Argument, address: int, length: int, protocol: str) -> str | None:
    """Returns ``[{nlmsg_len=20, nlmsg_type=RTM_GETLINK, ...}, {...}]`` of a buffer; None where it is not known."""
    data = argument.memory.read(address, min(length, _MESSAGE_MAX))
    if data is None:
        return None
    if length < _HEADER:
        return raw_text(argument, data)
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
        return header
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
                return f"{text}, {attributes_text(argument, after, ERROR, 0)}"
            return f"[{text}, {raw_text(argument, rest[len(original) :])}]" if rest[len(original) :] else text
        return text + "}"
    if kind == _DONE:
        return str(int.from_bytes(data[:4], "little", signed=True)) if len(data) >= 4 else raw_text(argument, data)
    if protocol == "ROUTE":
        return _route(argument, kind, data)
    if protocol == "SOCK_DIAG" and kind == 20:
        return _diagnosis(argument, flags, data)
    return raw_text(argument, data)


def _route(argument: Argument, kind: int, data: bytes) -> str:
    body = _RTNETLINK.get(kind >> 2)
    family = enum_text(argument, "socket_family", data[0], "AF_???")
    size = body.struct.size() if body is not None else 1
    if body is None or len(data) < size:
        rest = data[1:]
        word = {4: "ifi_family", 5: "ifa_family", 6: "rtm_family", 7: "ndm_family"}.get(kind >> 2, "family")
        more = ", ..." if body is not None else f", {raw_text(argument, rest)}" if rest else ""
        return f"{{{word}={family}{more}}}"
    words = [body.struct.text(argument, data[:size]) or ""]
    rest = data[-(-size // 4) * 4 :]
    if rest and body.attributes is not None:
        words.append(attributes_text(argument, rest, body.attributes, data[0]))
    return ", ".join(words)


_UNIX_REQUEST: Final = Struct(
    "sdiag_family enum8(socket_family, AF_???); sdiag_protocol u8; pad2; udiag_states tcpstates32; udiag_ino u32; "
    "udiag_show flags32(unix_diag_show, UDIAG_SHOW_???); udiag_cookie u32[2]"
)
_UNIX_ANSWER: Final = Struct(
    "udiag_family enum8(socket_family, AF_???); udiag_type enum8(socket_type, SOCK_???); "
    "udiag_state enum8(tcp_state, TCP_???); pad1; udiag_ino u32; udiag_cookie u32[2]"
)


def _diagnosis(argument: Argument, flags: int, data: bytes) -> str:
    family = data[0]
    if family == 1:
        struct = _UNIX_REQUEST if flags & 1 else _UNIX_ANSWER
        size = struct.size()
        if len(data) >= size:
            text = struct.text(argument, data[:size]) or ""
            rest = data[size:]
            return f"{text}, {attributes_text(argument, rest, UNIX, 1)}" if rest else text
    word = enum_text(argument, "socket_family", family, "AF_???")
    rest = data[1:]
    return f"{{sdiag_family={word}" + (f", {raw_text(argument, rest)}" if rest else "") + "}"
