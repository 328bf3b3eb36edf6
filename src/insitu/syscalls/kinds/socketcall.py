"""socketcall(2) of 32-bit programs: the arguments of the call that it stands for (net/socket.c)."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Choice, Linked
from insitu.syscalls.kinds.messages import HEADER_4
from insitu.syscalls.kinds.sockets import ADDRESS_MAX

__all__ = ["KINDS"]

_STAND_INS: Final = {"accept": "accept4", "send": "sendto", "recv": "recvfrom"}
"""send() and recv() have no call number of their own: they are sendto() and recvfrom() without an address."""
_GIVEN: Final = Bytes(1)
_DATA: Final = Bytes(1, whole=False)
_FILLED: Final = ((4, -1, 0, Bytes(ADDRESS_MAX)), (8, -1, 0, Bytes(4)))
_SHAPES: Final = {
    "socket": Linked(12, ()),
    "bind": Linked(12, ((4, 8, 4, _GIVEN),)),
    "connect": Linked(12, ((4, 8, 4, _GIVEN),)),
    "listen": Linked(8, ()),
    "accept": Linked(12, _FILLED),
    "getsockname": Linked(12, _FILLED),
    "getpeername": Linked(12, _FILLED),
    "socketpair": Linked(16, ((12, -1, 0, Bytes(8)),)),
    "send": Linked(16, ((4, 8, 4, _DATA),)),
    "recv": Linked(16, ((4, 8, 4, _DATA),)),
    "sendto": Linked(24, ((4, 8, 4, _DATA), (16, 20, 4, _GIVEN))),
    "recvfrom": Linked(24, ((4, 8, 4, _DATA), (16, -1, 0, Bytes(ADDRESS_MAX)), (20, -1, 0, Bytes(4)))),
    "shutdown": Linked(8, ()),
    "setsockopt": Linked(20, ((12, 16, 4, _GIVEN),)),
    "getsockopt": Linked(20, ((12, -1, 0, Bytes(256)), (16, -1, 0, Bytes(4)))),
    "sendmsg": Linked(12, ((4, -1, 0, Linked(28, HEADER_4)),)),
    "recvmsg": Linked(12, ((4, -1, 0, Linked(28, HEADER_4)),)),
    "accept4": Linked(16, _FILLED),
    "recvmmsg": Linked(20, ((4, 8, 4, Linked(32, HEADER_4, 64)), (16, -1, 0, Bytes(8)))),
    "sendmmsg": Linked(16, ((4, 8, 4, Linked(32, HEADER_4, 64)),)),
}
"""The array of arguments of each call, in the order of their numbers, which begin with 1."""


def _arguments(argument: Argument) -> str | None:
    """Returns ``[3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110]``, once: at the exit where there is one."""
    # That module's decoder needs all kinds.
    from insitu.syscalls.decode import Decoder

    if argument.call.exit is not None and not argument.at_exit:
        return None
    enter = argument.call.enter
    word = argument.facts.constant("socketcall", enter.args[0] & 0xFFFFFFFF)
    name = word.removeprefix("SYS_").lower() if word else ""
    number = argument.facts.numbers.get(_STAND_INS.get(name, name))
    if number is None:
        return None
    size = _SHAPES[name].size
    data = enter.memory.read(argument.value, size)
    if data is None or len(data) < size:
        return None
    values = [int.from_bytes(data[at : at + 4], "little") for at in range(0, size, 4)]
    args = (*values, *(6 - len(values)) * [0])
    meant = Call(enter._replace(nr=number, args=args), argument.call.exit)
    return f"[{', '.join(piece.text for piece in Decoder(argument.options).arguments(meant)[: len(values)])}]"


KINDS: Kinds = {
    "socketcall_arguments": Kind(_arguments, Choice(0, tuple(enumerate(_SHAPES.values(), start=1)))),
}
