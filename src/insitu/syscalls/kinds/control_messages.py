"""Control messages of sockets: what a msghdr carries beside its data (include/linux/socket.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, hexadecimal
from insitu.syscalls.kinds.layout import Struct, hex_or_0, interface
from insitu.syscalls.kinds.numbers import descriptor, enum_text
from insitu.syscalls.kinds.sockets import address_text, ipv4
from insitu.syscalls.kinds.strings import quoted

__all__ = ["control_text"]

_SOL_SOCKET, _SOL_IP = 1, 0
_SHOWN: Final = 32
"""Control messages, and descriptors of one, without -v."""
_MOST: Final = 4096
"""Bytes that are looked at."""


def control_text(argument: Argument, address: int, length: int) -> str:
    """Returns ``[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[3]}]``."""
    size = argument.long_size
    head = size + 8
    if length < head:
        return hexadecimal(address) if length else "[]"
    data = argument.memory.read(address, min(length, _MOST)) or b""
    if len(data) < head:
        return hexadecimal(address)
    words = []
    at = 0
    while at + head <= len(data):
        claimed = int.from_bytes(data[at : at + size], "little")
        level = int.from_bytes(data[at + size : at + size + 4], "little")
        kind = int.from_bytes(data[at + size + 4 : at + head], "little")
        taken = min(claimed, len(data) - at)
        set_name = {_SOL_SOCKET: "cmsg_socket", _SOL_IP: "cmsg_ip"}.get(level)
        type_text = enum_text(argument, set_name, kind) if set_name else hex_or_0(kind)
        level_text = enum_text(argument, "socket_level", level, "SOL_???")
        decode = _CONTROL.get((level, kind))
        text = decode(argument, data[at + head : at + taken]) if decode is not None and taken > head else None
        shown = f", cmsg_data={text}" if text is not None else ""
        words.append(f"{{cmsg_len={claimed}, cmsg_level={level_text}, cmsg_type={type_text}{shown}}}")
        at += -(-max(claimed, head) // size) * size
        if len(words) >= _SHOWN and not argument.options.verbose and at + head <= len(data):
            words.append("...")
            break
    else:
        if at < length:
            words.append(f"... /* {hexadecimal(address + at)} */")
    return f"[{', '.join(words)}]"


_TIMEVAL: Final = Struct("tv_sec long; tv_usec long")
_TIMESPEC: Final = Struct("tv_sec long; tv_nsec long")
_TIMEVAL_64: Final = Struct("tv_sec i64; tv_usec i64")
_TIMESPEC_64: Final = Struct("tv_sec i64; tv_nsec i64")
_UCRED: Final = Struct("pid int; uid id; gid id")


def _rights(argument: Argument, data: bytes) -> str:
    numbers = [int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, len(data) - 3, 4)]
    shown = numbers if argument.options.verbose else numbers[:_SHOWN]
    words = [descriptor(argument, each) for each in shown] + (["..."] if len(shown) < len(numbers) else [])
    return f"[{', '.join(words)}]"


def _of(struct: Struct) -> Callable[[Argument, bytes], str | None]:
    return lambda argument, data: struct.text(argument, data)


def _number(argument: Argument, data: bytes) -> str | None:
    return f"[{int.from_bytes(data[:4], 'little', signed=True)}]" if len(data) >= 4 else None


def _octets(argument: Argument, data: bytes) -> str | None:
    return f"[{', '.join(map(hex_or_0, data))}]"


def _packet_information(argument: Argument, data: bytes) -> str | None:
    if len(data) < 12:
        return None
    return (
        f"{{ipi_ifindex={interface(int.from_bytes(data[:4], 'little'))}, ipi_spec_dst={ipv4(data[4:8])}, "
        f"ipi_addr={ipv4(data[8:12])}}}"
    )


def _label(argument: Argument, data: bytes) -> str:
    limit = argument.options.string_limit
    return quoted(data[:limit], argument.options.strings_in_hex) + ("..." if len(data) > limit else "")


def _times(argument: Argument, data: bytes) -> str | None:
    """scm_timestamping: three of them."""
    size = _TIMESPEC.size(argument.long_size)
    if len(data) < 3 * size:
        return None
    return f"[{', '.join(_TIMESPEC.text(argument, data[at * size : (at + 1) * size]) or '' for at in range(3))}]"


def _original(argument: Argument, data: bytes) -> str | None:
    return address_text(argument, data, len(data)) if len(data) >= 16 else None


def _error(argument: Argument, data: bytes) -> str | None:
    """struct sock_extended_err with the offender's address (include/uapi/linux/errqueue.h)."""
    if len(data) < 32:
        return None
    number, info, extra = (int.from_bytes(data[at : at + 4], "little") for at in (0, 8, 12))
    return (
        f"{{ee_errno={number}, ee_origin={data[4]}, ee_type={data[5]}, ee_code={data[6]}, ee_info={info}, "
        f"ee_data={extra}, offender={address_text(argument, data[16:32], 16)}}}"
    )


_CONTROL: Final[dict[tuple[int, int], Callable[[Argument, bytes], str | None]]] = {
    (_SOL_SOCKET, 1): _rights,
    (_SOL_SOCKET, 2): _of(_UCRED),
    (_SOL_SOCKET, 29): _of(_TIMEVAL),
    (_SOL_SOCKET, 35): _of(_TIMESPEC),
    (_SOL_SOCKET, 37): _times,
    (_SOL_SOCKET, 63): _of(_TIMEVAL_64),
    (_SOL_SOCKET, 64): _of(_TIMESPEC_64),
    (_SOL_IP, 8): _packet_information,
    (_SOL_IP, 2): _number,
    (_SOL_IP, 1): _octets,
    (_SOL_IP, 6): _octets,
    (_SOL_IP, 7): _octets,
    (_SOL_SOCKET, 3): _label,
    (_SOL_IP, 23): _number,
    (_SOL_IP, 11): _error,
    (_SOL_IP, 20): _original,
}
