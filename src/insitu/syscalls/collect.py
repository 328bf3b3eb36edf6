"""Reads the memory that a call's arguments need from the stopped process, as capture.py's declarations say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import NOTHING, Call, Enter, Exit, Pieces
from insitu.syscalls.capture import Array, Bytes, Capture, Choice, Linked, OnStack, String, Wide
from insitu.syscalls.decode import Decoder, element_count, signature_of
from insitu.syscalls.kinds import KINDS
from insitu.syscalls.signature import Parameter
from insitu.syscalls.socket_tables import netlink_protocol

__all__ = ["Collector"]

_PATH_MAX: Final = 4096
_MOST_POINTERS: Final = 8192
_FIRST_READ: Final = 256
_MOST_BYTES: Final = 1 << 18
"""Of one half of a call: what it points to is chosen by the traced program."""
_MESSAGES: Final = ("datagram", "msghdr", "mmsghdr")

Read = Callable[[int, int, int], bytes]
"""(thread, address, size) -> up to size bytes."""


class _Need(NamedTuple):
    position: int
    parameter: Parameter
    capture: Capture


class _Plan(NamedTuple):
    """What to read of a call at entry and at exit."""

    enter: tuple[_Need, ...]
    exit: tuple[_Need, ...]
    has_messages: bool


@functools.cache
def _plan(abi: str, nr: int) -> _Plan:
    at_enter, at_exit = [], []
    for index, parameter in enumerate(signature_of(abi, nr).parameters):
        capture = KINDS[parameter.kind].capture
        if capture is None:
            continue
        need = _Need(index, parameter, capture)
        if parameter.reads or parameter.size.startswith("*$"):
            at_enter.append(need)
        if parameter.writes:
            at_exit.append(need)
    messages = any(parameter.kind in _MESSAGES for parameter in signature_of(abi, nr).parameters)
    return _Plan(tuple(at_enter), tuple(at_exit), messages)


class Collector:
    """Reads what calls' arguments point to."""

    def __init__(
        self,
        read: Read,
        *,
        string_limit: int = 32,
        verbose: bool = False,
        describe: Callable[[int, int], str] | None = None,
    ) -> None:
        """``describe`` (pid, descriptor) says what a descriptor is open on, where -y asks for that."""
        self._read = read
        self._limit = min(string_limit, _MOST_BYTES)
        self._verbose = verbose
        self._describe = describe
        self._decoder = Decoder(TextOptions(verbose=True, descriptors=1, peer_of=self._look_up))
        self._found: dict[int, str] = {}
        self._tid = 0
        self._wide = True
        self._pieces: list[tuple[int, bytes]] = []
        self._left = 0

    def at_enter(self, enter: Enter) -> Pieces:
        """Returns what the kernel is going to read for a call; the thread has stopped at its entry."""
        plan = _plan(enter.abi, enter.nr)
        needs = plan.enter
        if not needs and self._describe is None:
            return NOTHING
        memory = self._collected(Call(enter), plan, needs)
        if self._describe is None:
            return memory
        return self._described(memory, Call(enter._replace(memory=memory)))

    def at_exit(self, enter: Enter, result: int) -> Pieces:
        """Returns what the kernel has written for a call; the thread has stopped at its exit."""
        failed = -4096 < result < 0
        plan = _plan(enter.abi, enter.nr)
        needs = plan.exit
        if failed:
            needs = tuple(need for need in needs if need.parameter.on_failure)
        if not needs and (failed or self._describe is None):
            return NOTHING
        left = Exit(enter.ts_ns, enter.pid, enter.tid, result, enter.memory)
        memory = self._collected(Call(enter, left), plan, needs)
        if self._describe is None:
            return memory
        return self._described(memory, Call(enter, left._replace(memory=memory)))

    def _collected(self, call: Call, plan: _Plan, needs: Sequence[_Need]) -> Pieces:
        self._begin(call.enter)
        for index, parameter, capture in needs:
            self._take(call, parameter, capture, call.enter.args[index], at_exit=call.exit is not None)
        return Pieces(self._pieces, netlink=_netlink(plan, call.enter))

    def _described(self, memory: Pieces, call: Call) -> Pieces:
        """Returns the memory with the descriptors that the call's text names, those in structures too."""
        self._found = {}
        self._decoder.arguments(call)
        self._decoder.result(call)
        return Pieces(memory.pieces, self._found, memory.netlink) if self._found else memory

    def _look_up(self, pid: int, descriptor: int) -> str:
        assert self._describe is not None
        self._found[descriptor] = self._describe(self._tid, descriptor)
        return self._found[descriptor]

    def _begin(self, enter: Enter) -> None:
        self._tid = enter.tid
        self._wide = enter.abi not in ("i386", "x32")
        self._pieces = []
        self._left = _MOST_BYTES

    def _take(self, call: Call, parameter: Parameter, capture: Capture, address: int, *, at_exit: bool) -> None:
        if isinstance(capture, OnStack):
            self._whole(call.enter.stack_pointer + capture.offset, capture.size)
            return
        if not address:
            return
        if parameter.size.startswith("*$"):
            # The count itself is in memory, and another one at exit.
            self._whole(call.enter.args[int(parameter.size[2:])], 4)
            seen = Pieces(self._pieces)
            call = Call(call.enter._replace(memory=seen), call.exit and call.exit._replace(memory=seen))
            if not at_exit and not parameter.reads:
                return
        count = element_count(call, parameter)
        if count is None and parameter.size:
            return  # not known
        if isinstance(capture, Choice):
            chosen = call.enter.args[capture.argument] & capture.mask
            found = dict(capture.captures).get(chosen, capture.otherwise)
            if found is None:
                return
            capture = found
        if isinstance(capture, Array):
            self._array(address, capture, strings=self._verbose or "environment" not in parameter.given)
        else:
            self._place(capture, address, count)

    def _place(self, capture: Capture, address: int, count: int | None) -> None:
        if isinstance(capture, Wide):
            capture = capture.long8 if self._wide else capture.long4
        if isinstance(capture, String):
            self._string(address, _PATH_MAX if capture.path else self._limit + 1)
        elif isinstance(capture, Bytes):
            most = capture.most if capture.whole else self._limit * capture.size
            self._whole(address, min(capture.size * (1 if count is None else count), most))
        elif isinstance(capture, Array):
            self._array(address, capture, strings=True)
        elif isinstance(capture, Linked):
            self._linked(address, capture, count)

    def _bytes(self, address: int, size: int) -> bytes:
        data = self._read(self._tid, address, min(size, self._left))
        self._left -= len(data)
        return data

    def _whole(self, address: int, size: int) -> bytes:
        data = self._bytes(address, size)
        if data or not size:
            self._pieces.append((address, data))
        return data

    def _string(self, address: int, limit: int) -> None:
        """A string of which the end cannot be read is none: the kernel could not read it either."""
        data = self._bytes(address, min(limit, _FIRST_READ))
        end = data.find(b"\0")
        if end < 0 and len(data) == _FIRST_READ < limit:
            data += self._bytes(address + _FIRST_READ, limit - _FIRST_READ)
            end = data.find(b"\0", _FIRST_READ)
        if end >= 0:
            self._pieces.append((address, data[: end + 1]))
        elif len(data) == limit:
            self._pieces.append((address, data))

    def _array(self, address: int, capture: Array, *, strings: bool) -> None:
        """All pointers up to NULL, as their number may be shown, and the first strings."""
        size = 8 if self._wide else 4
        data = b""
        end = -1
        while end < 0 and len(data) < size * _MOST_POINTERS:
            part = self._bytes(address + len(data), 512)
            data += part
            end = next((at for at in range(0, len(data) - size + 1, size) if not any(data[at : at + size])), -1)
            if len(part) < 512:
                break
        data = data[: end + size] if end >= 0 else data
        if not data:
            return
        self._pieces.append((address, data))
        if strings:
            for at in range(0, min(len(data), size * capture.most), size):
                pointer = int.from_bytes(data[at : at + size], "little")
                if pointer:
                    self._string(pointer, self._limit + 1)

    def _linked(self, address: int, capture: Linked, count: int | None) -> None:
        elements = min(1 if count is None else count, capture.most)
        data = self._whole(address, min(elements * capture.size, _MOST_BYTES))
        width = 8 if self._wide else 4
        for base in range(0, len(data) - capture.size + 1, capture.size):
            for offset, length_offset, length_size, there in capture.links:
                pointer = int.from_bytes(data[base + offset : base + offset + width], "little")
                length = None
                if length_offset >= 0:
                    at = base + length_offset
                    length = int.from_bytes(data[at : at + length_size], "little")
                if pointer:
                    self._place(there, pointer, length)


def _netlink(plan: _Plan, enter: Enter) -> str:
    """The protocol of the netlink socket that a call sends or receives messages by."""
    return netlink_protocol(enter.tid, enter.args[0] & 0x7FFFFFFF) if plan.has_messages else ""
