"""Waiting for descriptors: select's sets, pollfd, epoll_event, and what their results say."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Linked, Wide
from insitu.syscalls.kinds.arrays import CAPTURED, array_text
from insitu.syscalls.kinds.numbers import descriptor, flags_text
from insitu.syscalls.kinds.signals import set_text
from insitu.syscalls.kinds.time import long_of_time, time_text

__all__ = ["KINDS"]

_MOST_SELECTED: Final = 8 * CAPTURED
_EPOLL_CTL_DEL: Final = 2


def _set_members(argument: Argument, count: int) -> list[int] | None:
    """Descriptors below ``count`` that are in the fd_set at the address: of whole longs."""
    bits = 8 * argument.long_size
    if count > _MOST_SELECTED:
        return None
    size = -(-count // bits) * argument.long_size
    data = argument.read(size) if size else b""
    if data is None:
        return None
    members = (8 * at + bit for at, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1)
    return [fd for fd in members if fd < count]


def _nfds(argument: Argument) -> int:
    """select()'s first argument; sets have 1024 members unless that says more."""
    value = argument.other(0) & 0xFFFFFFFF
    return 0 if value >> 31 else value


def _fd_set(argument: Argument) -> str | None:
    count = _nfds(argument)
    members = _set_members(argument, count) if count else None
    if members is None:
        return None
    return f"[{' '.join(descriptor(argument, fd) for fd in members)}]"


def _selected(argument: Argument) -> str:
    """Returns ``1 (in [3], left {tv_sec=9, tv_usec=999999})``."""
    if not argument.signed:
        return "0 (Timeout)"
    count, ready = _nfds(argument), argument.signed
    words = []
    for index, word in ((1, "in"), (2, "out"), (3, "except")):
        address = argument.other(index)
        members = _set_members(argument.at(address), count) if address else None
        # The kernel leaves what is above the process' descriptors as it was: no more are ready than it says.
        members = members[:ready] if members else None
        if members:
            ready -= len(members)
            words.append(f"{word} [{' '.join(descriptor(argument, fd) for fd in members)}]")
    words += _left(argument, 4, "usec" if _call_name(argument) in ("select", "_newselect") else "nsec")
    return f"{argument.signed} ({', '.join(words)})" if words else str(argument.signed)


def _call_name(argument: Argument) -> str:
    call = argument.facts.calls.get(argument.call.enter.nr)
    return call.name if call is not None else ""


def _left(argument: Argument, index: int, unit: str) -> list[str]:
    """What is left of the timeout, where there is one."""
    address = argument.other(index)
    size = 8 if _call_name(argument).endswith("64") else long_of_time(argument)
    text = time_text(argument.at(address), size, unit) if address else None
    return [f"left {text}"] if text is not None else []


def _pollfd(argument: Argument, *, returned: bool) -> str | None:
    data = argument.read(8)
    if data is None:
        return None
    fd = int.from_bytes(data[:4], "little", signed=True)
    events = int.from_bytes(data[6:8] if returned else data[4:6], "little")
    word = f"fd={descriptor(argument, fd)}"
    if fd >= 0:
        word += f", {'revents' if returned else 'events'}={flags_text(argument, 'poll', events)}"
    return f"{{{word}}}"


def _pollfds(argument: Argument) -> str | None:
    count = (argument.count or 0) & 0xFFFFFFFF
    return array_text(argument, 8, count, lambda at: _pollfd(at, returned=False))


def _polled(argument: Argument) -> str:
    """Returns ``1 ([{fd=3, revents=POLLIN}])``: the descriptors that have something."""
    if not argument.signed:
        return "0 (Timeout)"
    address, count = argument.other(0), argument.other(1) & 0xFFFFFFFF
    data = argument.memory.read(address, min(8 * count, 4096)) or b""
    words: list[str] = []
    for at in range(0, len(data) - 7, 8):
        if any(data[at + 6 : at + 8]):
            if len(words) >= argument.options.string_limit and not argument.options.verbose:
                words.append("...")
                break
            words.append(_pollfd(argument.at(address + at), returned=True) or "")
    if not words:
        return str(argument.signed)
    left = _left(argument, 2, "nsec") if _call_name(argument).startswith("ppoll") else []
    array = f"[{', '.join(words)}]"
    return f"{argument.signed} ({', '.join([array, *left])})"


def _epoll_event(argument: Argument) -> str | None:
    """struct epoll_event: packed on x86-64."""
    call = argument.call
    if _call_name(argument) == "epoll_ctl" and call.enter.args[1] & 0xFFFFFFFF == _EPOLL_CTL_DEL:
        return None
    data = argument.read(_epoll_size(argument))
    if data is None:
        return None
    events = flags_text(argument, "epoll", int.from_bytes(data[:4], "little"))
    value = data[-8:]
    low, whole = int.from_bytes(value[:4], "little"), int.from_bytes(value, "little")
    return f"{{events={events}, data={{u32={low}, u64={whole}}}}}"


def _epoll_size(argument: Argument) -> int:
    return 16 if argument.call.enter.abi == "aarch64" else 12


def _epoll_events(argument: Argument) -> str | None:
    return array_text(argument, _epoll_size(argument), argument.count or 0, _epoll_event)


def _sigset_and_size(argument: Argument) -> str | None:
    """pselect6()'s sixth argument: a pointer to a set, and its size."""
    long = argument.long_size
    address, size = argument.number(long), argument.number(long, long)
    if address is None or size is None:
        return None
    text = "NULL"
    if address:
        data = argument.memory.read(address, size) if 0 < size <= 8 and not size % long else None
        text = hexadecimal(address) if data is None or len(data) < size else set_text(argument, data)
    return f"{{sigmask={text}, sigsetsize={size}}}"


KINDS: Kinds = {
    "fd_set": Kind(_fd_set, Bytes(8)),
    "selected": Kind(_selected),
    "pollfds": Kind(_pollfds, Bytes(8)),
    "polled": Kind(_polled),
    "epoll_event": Kind(_epoll_event, Bytes(12)),
    "epoll_events": Kind(_epoll_events, Bytes(12)),
    "sigset_and_size": Kind(
        _sigset_and_size, Wide(Linked(16, ((0, -1, 0, Bytes(8)),)), Linked(8, ((0, -1, 0, Bytes(8)),)))
    ),
}
