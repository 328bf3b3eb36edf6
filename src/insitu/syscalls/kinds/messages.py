"""Messages of sockets: msghdr with its vector of buffers, and plain datagrams."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Linked, Wide
from insitu.syscalls.kinds.control_messages import control_text
from insitu.syscalls.kinds.layout import Struct
from insitu.syscalls.kinds.netlink import netlink_messages
from insitu.syscalls.kinds.numbers import flags_text
from insitu.syscalls.kinds.sockets import socket_address
from insitu.syscalls.kinds.strings import quoted

__all__ = ["HEADER_4", "KINDS", "buffer_text", "vector_text"]

_AF_NETLINK: Final = 16
_MOST_VECTORS: Final = 1024
"""UIO_MAXIOV of include/uapi/linux/uio.h."""
_SHOWN: Final = 32
"""Elements of an array without -v."""

_BUFFERS: Final = Linked(16, ((0, 8, 8, Bytes(1)),), 64)
_BUFFERS_4: Final = Linked(8, ((0, 4, 4, Bytes(1)),), 64)
_HEADER: Final = ((0, 8, 4, Bytes(1)), (16, 24, 8, _BUFFERS), (32, 40, 8, Bytes(1)))
HEADER_4: Final = ((0, 4, 4, Bytes(1)), (8, 12, 4, _BUFFERS_4), (16, 20, 4, Bytes(1)))
"""What a msghdr of a 32-bit program points to."""


def buffer_text(argument: Argument, address: int, length: int, netlink: str = "") -> str:
    """Returns ``length`` bytes in quotes, at most -s of them; messages where ``netlink`` is a protocol."""
    if not address:
        return "NULL"
    if netlink:
        text = netlink_messages(argument, address, length, netlink)
        if text is not None:
            return text
    limit = argument.options.string_limit
    size = min(length, limit)
    data = argument.at(address).read(size) if size else b""
    if data is None:
        return hexadecimal(address)
    return quoted(data, argument.options.strings_in_hex) + ("..." if length > limit else "")


def _netlink(argument: Argument, family: int = 0) -> str:
    """Returns the protocol of the call's socket, "" if it is not a netlink socket as far as is known."""
    known = getattr(argument.memory, "netlink", "")
    if known:
        return str(known)
    return "unknown" if family == _AF_NETLINK else ""


def _datagram(argument: Argument) -> str | None:
    if argument.count is None:
        return None
    target = argument.other(4)
    family = argument.memory.read(target, 2) if target else None
    is_netlink = _netlink(argument, int.from_bytes(family, "little") if family else 0)
    return buffer_text(argument, argument.value, argument.count, is_netlink)


def vector_text(argument: Argument, address: int, count: int, length: int | None = None, netlink: str = "") -> str:
    """Returns ``[{iov_base="x", iov_len=1}]``: a vector of ``count`` buffers; ``length`` bytes in all are shown."""
    if not address:
        return "NULL"
    size = argument.long_size
    words = []
    if count > _MOST_VECTORS:
        return hexadecimal(address)
    if not count:
        return "[]"
    for index in range(count):
        if index >= _SHOWN and not argument.options.verbose:
            words.append("...")
            break
        element = argument.at(address + 2 * size * index)
        base, room = element.number(size), element.number(size, size)
        if base is None or room is None:
            if not index:
                return hexadecimal(address)
            words.append(f"... /* {hexadecimal(element.value)} */")
            break
        shown = room if length is None else min(room, length)
        text = buffer_text(argument, base, shown, netlink) if shown or base else "NULL"
        words.append(f"{{iov_base={text}, iov_len={room}}}")
        if length is not None:
            length -= shown
    return f"[{', '.join(words)}]"


def _header_words(argument: Argument, received: int | None) -> str | None:
    """A msghdr. ``received``: bytes in its buffers, where the kernel filled them."""
    size = argument.long_size
    name, iov, iovs = argument.number(size), argument.number(size, 2 * size), argument.number(size, 3 * size)
    name_length = argument.number(4, size, signed=True)
    control, control_length = argument.number(size, 4 * size), argument.number(size, 5 * size)
    flags = argument.number(4, 6 * size)
    if None in (name, iov, iovs, name_length, control, control_length, flags):
        return None
    assert name is not None and iov is not None and iovs is not None and name_length is not None
    assert control is not None and control_length is not None and flags is not None
    words = []
    family = 0
    if argument.at_exit:
        room = argument.call.enter.memory.read(argument.value + size, 4)
        space = int.from_bytes(room, "little", signed=True) if room and len(room) == 4 else name_length
        shown_length = f"{space} => {name_length}" if space != name_length else str(name_length)
    else:
        space, shown_length = name_length, str(name_length)
    if name and name_length >= 0:
        text = socket_address(argument, name, min(name_length, space)) if name_length else None
        words.append(f"msg_name={text or (hexadecimal(name))}")
        head = argument.memory.read(name, 2)
        family = int.from_bytes(head, "little") if head and len(head) == 2 else 0
    else:
        words.append(f"msg_name={hexadecimal(name)}")
    words.append(f"msg_namelen={shown_length}")
    words.append(f"msg_iov={vector_text(argument, iov, iovs, received, _netlink(argument, family))}")
    words.append(f"msg_iovlen={iovs}")
    if argument.at_exit:
        before_length = argument.call.enter.memory.read(argument.value + 5 * size, size)
        asked = int.from_bytes(before_length, "little") if before_length else control_length
    else:
        asked = control_length
    if asked or control_length:
        if control:
            words.append(f"msg_control={control_text(argument, control, control_length)}")
        else:
            words.append("msg_control=NULL")
    words.append(f"msg_controllen={control_length}")
    words.append(f"msg_flags={flags_text(argument, 'msg', flags)}")
    return "{" + ", ".join(words) + "}"


def _message(argument: Argument) -> str | None:
    call = argument.call
    receives = argument.given == () and _receives(argument)
    if not receives:
        return _header_words(argument, None)
    if argument.at_exit:
        return _header_words(argument, max(call.exit.ret, 0) if call.exit is not None else 0)
    if call.exit is None or call.failed:
        length = argument.number(4, argument.long_size, signed=True)
        return None if length is None else f"{{msg_namelen={length}}}"
    return None


def _receives(argument: Argument) -> bool:
    call = argument.facts.calls.get(argument.call.enter.nr)
    return call is not None and call.name.startswith("recv")


def _messages(argument: Argument) -> str | None:
    """sendmmsg and recvmmsg: an array of msghdr with the length of what was sent or received."""
    call = argument.call
    size = argument.long_size
    width = 8 * size if size == 8 else 32
    receives = _receives(argument)
    if receives and not argument.at_exit:
        return None
    if not receives and not argument.at_exit and call.exit is not None and not call.failed:
        return None
    done = call.exit.ret if call.exit is not None else None
    count = argument.count or 0
    if argument.at_exit and done is not None:
        count = min(count, done)
    words = []
    for index in range(min(count, _MOST_VECTORS)):
        if index >= _SHOWN and not argument.options.verbose:
            words.append("...")
            break
        element = argument.at(argument.value + width * index)
        length = element.number(4, 7 * size if size == 8 else 28)
        header = _header_words(element, length if receives else None)
        if header is None or length is None:
            if not words:
                return None
            words.append(f"... /* {hexadecimal(element.value)} */")
            break
        words.append(f"{{msg_hdr={header}" + (f", msg_len={length}}}" if argument.at_exit else "}"))
    return f"[{', '.join(words)}]"


_TIMESPEC: Final = Struct("tv_sec long; tv_nsec long")
_TIMESPEC_64: Final = Struct("tv_sec i64; tv_nsec i64")


def _timespec(argument: Argument) -> Struct:
    return _TIMESPEC_64 if argument.given else _TIMESPEC


def _result(argument: Argument) -> str | None:
    """How many messages were received, and what is left of the time."""
    address = argument.other(4)
    left = _timespec(argument).text(argument.at(address)) if address and argument.signed > 0 else None
    return str(argument.signed) + (f" (left {left})" if left is not None else "")


def _timeout(argument: Argument) -> str | None:
    return None if argument.at_exit else _timespec(argument).text(argument)


KINDS: Kinds = {
    "datagram": Kind(_datagram, Bytes(1)),
    "msghdr": Kind(_message, Wide(Linked(56, _HEADER), Linked(28, HEADER_4))),
    "mmsghdr": Kind(_messages, Wide(Linked(64, _HEADER, 64), Linked(32, HEADER_4, 64))),
    "mmsg_timeout": Kind(_timeout, Bytes(16)),
    "mmsg_result": Kind(_result),
}
