"""Sockets: addresses of all families, types, lengths."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.call import c_int
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.layout import hex_or_0, interface
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted

__all__ = ["ADDRESS_MAX", "KINDS", "address_text", "ipv4", "ipv6", "mac", "socket_address", "socket_type"]

ADDRESS_MAX: Final = 128
"""Bytes of a struct sockaddr_storage."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SHORTEST: Final = {_AF_INET: 16, _AF_INET6: 24, _AF_NETLINK: 12, 4: 16, 3: 16, 9: 28, 17: 12, 31: 6, 40: 16, 30: 16}


def ipv4(data: bytes) -> str:
    """Returns ``inet_addr("127.0.0.1")``."""
    return f'inet_addr("{socket.inet_ntop(socket.AF_INET, data)}")'


def ipv6(data: bytes) -> str:
    """Returns ``::1``."""
    return socket.inet_ntop(socket.AF_INET6, data)


def mac(data: bytes) -> str:
    """Returns a hardware address with colons between."""
    return ":".join(f"{byte:02x}" for byte in data)


def socket_address(argument: Argument, address: int, length: int) -> str | None:
    """Returns ``{sa_family=AF_UNIX, sun_path="/run/x"}`` of ``length`` bytes; None where they are not known."""
    if length < 2:
        return None
    size = min(length, ADDRESS_MAX)
    data = argument.at(address).read(size)
    return None if data is None else address_text(argument, data, length)


def address_text(argument: Argument, data: bytes, length: int) -> str:
    """Returns the text of a socket address of ``length`` bytes, of which ``data`` are the first 128."""
    family = int.from_bytes(data[:2], "little")
    words = [f"sa_family={enum_text(argument, 'socket_family', family, 'AF_???')}"]
    decode = _FAMILIES.get(family)
    if decode is not None and len(data) >= _SHORTEST.get(family, 2) and len(data) > 2:
        words += decode(argument, data, length)
    elif len(data) > 2:
        words.append(f"sa_data={quoted(data[2:], argument.options.strings_in_hex)}")
    return "{" + ", ".join(words) + "}"


def _unix(argument: Argument, data: bytes, length: int) -> list[str]:
    path = data[2:110]
    in_hex = argument.options.strings_in_hex
    if path[:1] == b"\0":
        return [f"sun_path=@{quoted(path[1:], in_hex)}"]
    return [f"sun_path={quoted(path.partition(bytes(1))[0], in_hex)}"]


def _inet(argument: Argument, data: bytes, length: int) -> list[str]:
    return [f"sin_port=htons({int.from_bytes(data[2:4], 'big')})", f"sin_addr={ipv4(data[4:8])}"]


def _inet6(argument: Argument, data: bytes, length: int) -> list[str]:
    words = [
        f"sin6_port=htons({int.from_bytes(data[2:4], 'big')})",
        f"sin6_flowinfo=htonl({int.from_bytes(data[4:8], 'big')})",
        f'inet_pton(AF_INET6, "{ipv6(data[8:24])}", &sin6_addr)',
    ]
    if len(data) >= 28:
        scope = int.from_bytes(data[24:28], "little")
        local = (data[8] == 0xFE and data[9] & 0xC0 == 0x80) or (data[8] == 0xFF and data[9] & 0x0F == 2)
        words.append(f"sin6_scope_id={interface(scope) if local else scope}")
    return words


def _netlink(argument: Argument, data: bytes, length: int) -> list[str]:
    pid, groups = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
    return [f"nl_pid={pid}", f"nl_groups={groups:#08x}" if groups else "nl_groups=00000000"]


def _packet(argument: Argument, data: bytes, length: int) -> list[str]:
    protocol = enum_text(argument, "ethernet_protocol", int.from_bytes(data[2:4], "big"), "ETH_P_???")
    words = [
        f"sll_protocol=htons({protocol})",
        f"sll_ifindex={interface(int.from_bytes(data[4:8], 'little', signed=True))}",
        f"sll_hatype={enum_text(argument, 'arp_hardware', int.from_bytes(data[8:10], 'little'), 'ARPHRD_???')}",
        f"sll_pkttype={enum_text(argument, 'packet_type', data[10], 'PACKET_???')}",
        f"sll_halen={data[11]}",
    ]
    if data[11]:
        octets = data[12 : 12 + min(data[11], max(len(data) - 12, 0))]
        words.append("sll_addr=[" + ", ".join(f"{each:#x}" if each else "00" for each in octets) + "]")
    return words


def _bluetooth(argument: Argument, data: bytes, length: int) -> list[str]:
    """By length, as the protocol is not in the address: SCO, HCI, RFCOMM, L2CAP (include/net/bluetooth/*.h)."""
    if len(data) == 6 and length == 6:
        device = int.from_bytes(data[2:4], "little")
        channel = enum_text(argument, "hci_channel", int.from_bytes(data[4:6], "little"), "HCI_CHANNEL_???")
        return [f"hci_dev=htobs({device})", f"hci_channel={channel}"]

    def bdaddr(at: int) -> str:
        return mac(data[at : at + 6])

    if length == 8:
        return [f"sco_bdaddr={bdaddr(2)}"]
    if length == 10:
        return [f"rc_bdaddr={bdaddr(2)}", f"rc_channel={data[8]}"]
    psm = int.from_bytes(data[2:4], "little")
    words = [f"l2_psm=htobs({_l2cap(argument, 'bluetooth_psm', psm, 0x1001, 'L2CAP_PSM_LE_DYN_START')})"]
    words.append(f"l2_bdaddr={bdaddr(4)}")
    if len(data) >= 12:
        cid = int.from_bytes(data[10:12], "little")
        words.append(f"l2_cid=htobs({_l2cap(argument, 'bluetooth_cid', cid, 0x40, 'L2CAP_CID_DYN_START')})")
    if len(data) >= 13:
        words.append(f"l2_bdaddr_type={enum_text(argument, 'bluetooth_address', data[12], 'BDADDR_???')}")
    return words


def _l2cap(argument: Argument, name: str, value: int, dynamic: int, word: str) -> str:
    if value >= dynamic and argument.facts.constant(name, value) is None:
        return f"{word}+{value - dynamic}"
    return enum_text(argument, name, value, f"{name}")


def _vsock(argument: Argument, data: bytes, length: int) -> list[str]:
    cid = int.from_bytes(data[8:12], "little")
    port = int.from_bytes(data[4:8], "little")
    known = argument.facts.constant("vsock_cid", cid)
    return [
        f"svm_cid={enum_text(argument, 'vsock_cid', cid) if known else hex_or_0(cid)}",
        f"svm_port={'VMADDR_PORT_ANY' if port == 0xFFFFFFFF else hex_or_0(port)}",
        f"svm_flags={flags_text(argument, 'vsock_flags', data[12], 'VMADDR_FLAG_???')}",
    ]


_FAMILIES: Final[dict[int, Callable[[Argument, bytes, int], list[str]]]] = {
    _AF_UNIX: _unix,
    _AF_INET: _inet,
    _AF_INET6: _inet6,
    _AF_NETLINK: _netlink,
    17: _packet,
    31: _bluetooth,
    40: _vsock,
}


def _address_given(argument: Argument) -> str | None:
    """An address that the program gives, of as many bytes as another argument says."""
    return socket_address(argument, argument.value, c_int(argument.count or 0))


def _address_filled(argument: Argument) -> str | None:
    """An address that the kernel writes: at most as many bytes as there was room for (the argument after it)."""
    if argument.given:
        index = int(argument.given[0])
        room = argument.call.enter.memory.read(argument.other(index), 4)
        written = argument.memory.read(argument.other(index), 4)
        if room is None or written is None:
            return None
        size = int.from_bytes(room, "little", signed=True)
        count = int.from_bytes(written, "little", signed=True)
        return socket_address(argument, argument.value, min(size, count))
    return None


def _length(argument: Argument) -> str | None:
    """``[16]``; ``[128 => 16]`` comes of both halves."""
    number = argument.number(4, signed=True)
    if number is None:
        return None
    if argument.at_exit:
        before = argument.call.enter.memory.read(argument.value, 4)
        if before is not None and len(before) == 4:
            room = int.from_bytes(before, "little", signed=True)
            return f"[{number}]" if room == number else f"[{room} => {number}]"
        return f"[{number}]"
    if argument.given and not argument.other(int(argument.given[0])):
        return None  # without an address its length is not looked at
    # What it was before is part of the text at exit.
    return f"[{number}]" if argument.call.exit is None or argument.call.failed else None


def socket_type(argument: Argument) -> str:
    """Returns ``SOCK_STREAM|SOCK_CLOEXEC``."""
    value = argument.value & 0xFFFFFFFF
    flags = value & ~0xF
    kind = enum_text(argument, "socket_type", value & 0xF, "SOCK_???")
    if argument.options.constants != "abbrev":
        return flags_text(argument, "socket_type", value, "SOCK_???")
    return f"{kind}|{flags_text(argument, 'socket_flags', flags)}" if flags else kind


_PROTOCOLS: Final = {
    _AF_INET: ("ipproto", "IPPROTO_???"),
    _AF_INET6: ("ipproto", "IPPROTO_???"),
    _AF_NETLINK: ("netlink_family", "NETLINK_???"),
    24: ("px_protocol", "PX_PROTO_???"),
    31: ("bluetooth_protocol", "BTPROTO_???"),
    29: ("can_protocol", "CAN_???"),
    35: ("phonet_protocol", "PN_PROTO_???"),
    39: ("nfc_protocol", "NFC_SOCKPROTO_???"),
    37: ("caif_protocol", "CAIFPROTO_???"),
    41: ("kcm_protocol", "KCMPROTO_???"),
    43: ("smc_protocol", "SMCPROTO_???"),
}


def _protocol(argument: Argument) -> str:
    family = argument.other(0) & 0xFFFFFFFF
    value = argument.value & 0xFFFFFFFF
    if family == 17:
        swapped = int.from_bytes((value & 0xFFFF).to_bytes(2, "little"), "big")
        return f"htons({enum_text(argument, 'ethernet_protocol', swapped, 'ETH_P_???')})"
    names = _PROTOCOLS.get(family)
    return str(argument.value & 0xFFFFFFFF) if names is None else enum_text(argument, names[0], value, names[1])


def _descriptors(argument: Argument) -> str | None:
    data = argument.read(8)
    if data is None:
        return None
    fds = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4))
    return f"[{', '.join(descriptor(argument, each) for each in fds)}]"


KINDS: Kinds = {
    "sockaddr": Kind(_address_given, Bytes(1)),
    "sockaddr_filled": Kind(_address_filled, Bytes(ADDRESS_MAX)),
    "socklen": Kind(_length, Bytes(4)),
    "socket_type": Kind(socket_type),
    "socket_protocol": Kind(_protocol),
    "socketpair": Kind(_descriptors, Bytes(8)),
}
