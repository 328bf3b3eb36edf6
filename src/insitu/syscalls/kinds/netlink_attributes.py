"""Attributes of netlink's messages: their types, and what each holds.

Layouts: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, unix_diag.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from insitu.syscalls.argument import Argument
from insitu.syscalls.kinds.layout import Struct, hex_or_0, interface
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.sockets import ipv4, ipv6, mac
from insitu.syscalls.kinds.strings import quoted

__all__ = [
    "ADDRESS", "ERROR", "LINK", "NEIGHBOUR", "ROUTE", "UNIX", "Attributes", "attributes_text", "raw_text",
]  # fmt: skip

_SHOWN: Final = 32
"""Attributes without -v."""
_DEEPEST: Final = 8
"""Nested attributes: deeper ones are shown as bytes."""
_AF_INET, _AF_INET6 = 2, 10

Value = Callable[[Argument, bytes, int], str | None]
"""(argument, bytes of an attribute, family) -> text."""


class Attributes(NamedTuple):
    """Attributes of a kind of message: names of their types, how each is shown."""

    names: str
    unknown: str
    values: Mapping[int, Value]


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


def _nested(attributes: Attributes) -> Value:
    return lambda argument, data, family: attributes_text(argument, data, attributes, family, 1)


_STATS: Final = (
    "rx_packets {0}; tx_packets {0}; rx_bytes {0}; tx_bytes {0}; rx_errors {0}; tx_errors {0}; rx_dropped {0}; "
    "tx_dropped {0}; multicast {0}; collisions {0}; rx_length_errors {0}; rx_over_errors {0}; rx_crc_errors {0}; "
    "rx_frame_errors {0}; rx_fifo_errors {0}; rx_missed_errors {0}; tx_aborted_errors {0}; tx_carrier_errors {0}; "
    "tx_fifo_errors {0}; tx_heartbeat_errors {0}; tx_window_errors {0}; rx_compressed {0}; tx_compressed {0}; "
    "rx_nohandler {0}"
)
_u8, _u16, _u32 = _number(1), _number(2), _number(4)

_LINK_INFO: Final = Attributes("link_info_attribute", "IFLA_INFO_???", {1: _string, 4: _string})
_XDP: Final = Attributes(
    "ifla_xdp", "IFLA_XDP_???", {1: _number(4, signed=True), 2: _words("xdp_attached", 1), 4: _u32}
)
LINK: Final = Attributes(
    "link_attribute",
    "IFLA_???",
    {
        1: _hardware, 2: _hardware, 3: _string, 4: _u32, 5: _u32, 6: _string, 7: _struct(_STATS.format("u32")),
        10: _interface,
        13: _u32,
        14: _struct("mem_start u64; mem_end u64; base_addr u64; irq u16; dma u8; port u8"),
        15: _u32, 16: _u8, 17: _u8, 18: _nested(_LINK_INFO), 20: _string, 21: _u32,
        23: _struct(_STATS.format("u64") + "; rx_otherhost_dropped u64"), 27: _u32, 30: _u32, 31: _u32, 32: _u32,
        33: _u8, 35: _u32, 37: _number(4, signed=True),
        38: _string, 39: _u8, 40: _u32, 41: _u32, 43: _nested(_XDP), 47: _u32, 48: _u32, 49: _number(4, signed=True),
        50: _u32,
        51: _u32, 53: _string, 54: _hardware, 56: _string, 57: _string, 58: _u32, 59: _u32, 60: _u32, 61: _u32,
    },
)  # fmt: skip
ADDRESS: Final = Attributes(
    "address_attribute",
    "IFA_???",
    {
        1: _address, 2: _address, 3: _string, 4: _address, 5: _address,
        6: _struct("ifa_prefered u32; ifa_valid u32; cstamp u32; tstamp u32"), 7: _address,
        8: _words("address_flags", 4, flags=True, unknown="IFA_F_???"), 9: _u32, 10: _number(4, signed=True), 11: _u8,
    },
)  # fmt: skip
_METRICS: Final = Attributes("route_metric", "RTAX_???", dict.fromkeys(range(1, 16), _u32) | {16: _string, 17: _u32})
ROUTE: Final = Attributes(
    "route_attribute",
    "RTA_???",
    {
        1: _address, 2: _address, 3: _interface, 4: _interface, 5: _address, 6: _u32, 7: _address,
        8: _nested(_METRICS),
        11: _u32, 12: _struct("rta_clntref u32; rta_lastuse u32; rta_expires u32; rta_error u32; rta_used u32; "
                    "rta_id x32; rta_ts u32; rta_tsage u32"),
        15: _words("route_table", 4), 16: _u32, 19: _address, 20: _u8, 25: _u32, 26: _u8, 30: _u32,
    },
)  # fmt: skip
NEIGHBOUR: Final = Attributes(
    "neighbour_attribute",
    "NDA_???",
    {1: _address, 2: _hardware,
     3: _struct("ndm_confirmed u32; ndm_used u32; ndm_updated u32; ndm_refcnt u32"), 4: _u32, 5: _u16, 7: _u32,
     8: _interface,
     9: _interface},
)  # fmt: skip
UNIX: Final = Attributes(
    "unix_diag_attribute", "UNIX_DIAG_???",
    {0: _string, 1: _struct("udiag_vfs_dev u32; udiag_vfs_ino u32"), 2: _u32,
    4: _struct("udiag_rqueue u32; udiag_wqueue u32"),
     6: _u8, 7: _u32},
)  # fmt: skip
ERROR: Final = Attributes("netlink_error_attribute", "NLMSGERR_ATTR_???", {1: _string, 2: _u32})


def raw_text(argument: Argument, data: bytes) -> str:
    """Returns bytes in hexadecimal, at most -s of them."""
    limit = argument.options.string_limit
    return quoted(data[:limit], "all") + ("..." if len(data) > limit else "")


def attributes_text(argument: Argument, data: bytes, attributes: Attributes, family: int, depth: int = 1) -> str:
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
            words.append(f"[{header}, {raw_text(argument, payload) if text is None else text}]")
        else:
            words.append(header)
        if length < 4:
            break
        at += -(-length // 4) * 4
    if not words:
        return raw_text(argument, data)
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


def _attribute_name(argument: Argument, kind: int, attributes: Attributes) -> str:
    flags = kind & 0xC000
    word = enum_text(argument, attributes.names, kind & 0x3FFF, attributes.unknown)
    return f"{flags_text(argument, 'nla_flags', flags)}|{word}" if flags else word
