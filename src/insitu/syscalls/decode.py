"""From a call to its text: name, arguments, result, as strace(1) shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from insitu.syscalls.argument import Argument, Kind, TextOptions, hexadecimal
from insitu.syscalls.call import Call, Enter, Pieces, c_int
from insitu.syscalls.capture import OnStack
from insitu.syscalls.facts import Facts, facts_of
from insitu.syscalls.kinds import KINDS
from insitu.syscalls.kinds.numbers import BY_VALUE
from insitu.syscalls.signature import Parameter, Signature, signatures

__all__ = ["MOST_CHARACTERS", "Decoder", "Piece", "call_name", "signature_of", "signed_argument"]

MOST_CHARACTERS: Final = 1 << 20
"""Of the arguments of a call: the text of a hostile one is cut there."""
_MOST_TEXTS: Final = 4096
_MOST_VALUES: Final = 256
"""Of an argument of one call: a traced program chooses them."""
_MOST_REMEMBERED: Final = 1024
"""Bytes of memory of a call whose text is remembered."""
_ABOUT_INTERFACES: Final = ("bpf", "ioctl")
"""Calls, besides those of sockets, whose text has names of network interfaces, which may change."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Piece(NamedTuple):
    """The text of one argument. ``at_exit``: it is known when the call has returned only."""

    text: str
    at_exit: bool


def call_name(abi: str, nr: int) -> str:
    """Returns the call's name; "syscall_0x1c8" for a number that the tables do not have."""
    facts = facts_of(abi).calls.get(nr)
    return facts.name if facts else f"syscall_{nr:#x}"


def signature_of(abi: str, nr: int) -> Signature:
    """Returns how a call's arguments are shown: of the tables, else by the C types of the kernel's headers."""
    call = facts_of(abi).calls.get(nr)
    if call is None:
        return Signature(call_name(abi, nr), (Parameter("hex"),) * 6, Parameter("int"))
    found = signatures().get(f"{call.name}.{abi}") or signatures().get(call.name)
    return found or Signature(call.name, tuple(_by_type(type_) for type_, _ in call.parameters), Parameter("int"))


def signed_argument(enter: Enter, index: int) -> int:
    """Returns an argument as a signed number: a C int where it is one, as descriptors are; 0 if it has none there."""
    value = enter.args[index] if index < len(enter.args) else 0
    parameters = signature_of(enter.abi, enter.nr).parameters
    if index < len(parameters) and parameters[index].kind in ("int", "fd", "dirfd"):
        return c_int(value)
    return value - (1 << 64) if value >> 63 else value


def _by_type(type_: str) -> Parameter:
    if "*" in type_:
        return Parameter("path") if type_.replace(" ", "") == "constchar*" else Parameter("pointer")
    if type_ == "umode_t":
        return Parameter("mode")
    unsigned = type_.startswith(("unsigned", "size_t", "u32", "u64", "__u"))
    long = "long" in type_ or type_ in ("size_t", "ssize_t", "loff_t", "off_t", "u64", "__u64")
    return Parameter(("unsigned" if unsigned else "int") + ("_long" if long else ""))


class _Plan(NamedTuple):
    """What shows a call's arguments, and what it returns."""

    head: str
    """The call's name, and the parenthesis."""
    arguments: tuple[Callable[[Call], Piece | None], ...]
    returns: Callable[[Call, int], str | None]
    repeats: bool
    """Whether equal calls have equal text."""


class Decoder:
    """Turns calls into text."""

    def __init__(self, options: TextOptions | None = None) -> None:
        self.options = options or TextOptions()
        self._plans: dict[tuple[str, int], _Plan] = {}
        self._texts: dict[tuple[Any, ...], tuple[str, str]] = {}

    def text(self, call: Call) -> tuple[str, str]:
        """Returns the line of a call that has returned, as the two parts of it around ``) =``; see result()."""
        enter, left = call
        if left is None or left.injected or left.delayed or self.options.descriptors:
            return self._text(call)
        before, after = enter.memory, left.memory
        if type(before) is not Pieces or type(after) is not Pieces:
            return self._text(call)
        key = (enter.nr, enter.args, left.ret, before.pieces, after.pieces, enter.abi)
        found = self._texts.get(key)
        if found is None:
            found = self._text(call)
            size = sum(len(data) for _, data in (*before.pieces, *after.pieces))
            if size <= _MOST_REMEMBERED and self._plan(enter).repeats:
                _remember(self._texts, key, found, _MOST_TEXTS)
        return found

    def _text(self, call: Call) -> tuple[str, str]:
        arguments = ", ".join([piece.text for piece in self.arguments(call)])
        return f"{self._plan(call.enter).head}{arguments[:MOST_CHARACTERS]}", self.result(call)

    def arguments(self, call: Call) -> list[Piece]:
        """Returns the text of each argument that strace(1) shows. Of a call that has not returned, what the kernel
        writes is shown as an address."""
        pieces = [show(call) for show in self._plan(call.enter).arguments]
        return [piece for piece in pieces if piece is not None]

    def result(self, call: Call) -> str:
        """Returns what follows the ``=``: "3", "-1 ENOENT (No such file or directory)", "? ERESTARTSYS (...)"."""
        left = call.exit
        if left is None:
            return "?"
        injected = (" (INJECTED)" if left.injected else "") + (" (DELAYED)" if left.delayed else "")
        if call.failed:
            return facts_of(call.enter.abi).error_text(-left.ret) + injected
        text = self._plan(call.enter).returns(call, left.ret & 0xFFFFFFFFFFFFFFFF)
        return (str(left.ret) if text is None else text) + injected

    # What is the same for all calls of a number is found once

    def _plan(self, enter: Enter) -> _Plan:
        key = (enter.abi, enter.nr)
        found = self._plans.get(key)
        if found is None:
            found = self._planned(*key)
            _remember(self._plans, key, found, _MOST_TEXTS)
        return found

    def _planned(self, abi: str, nr: int) -> _Plan:
        signature = signature_of(abi, nr)
        facts = facts_of(abi)
        arguments = tuple(self._shown(index, each, facts) for index, each in enumerate(signature.parameters))
        returns, kind = signature.returns, KINDS[signature.returns.kind]

        def result(call: Call, value: int) -> str | None:
            memory = call.exit.memory if call.exit is not None else call.enter.memory
            return kind.text(Argument(value, returns.given, None, memory, call, self.options, facts, True))

        on_stack = any(isinstance(KINDS[each.kind].capture, OnStack) for each in signature.parameters)
        repeats = not on_stack and "network" not in signature.groups and signature.name not in _ABOUT_INTERFACES
        return _Plan(f"{call_name(abi, nr)}(", arguments, result, repeats)

    def _shown(self, index: int, parameter: Parameter, facts: Facts) -> Callable[[Call], Piece | None]:
        kind = KINDS[parameter.kind]
        if kind.capture is not None:
            show = self._pointer(index, parameter, kind, facts)
        elif parameter.kind in BY_VALUE and not self.options.descriptors:
            show = self._value(index, parameter, kind, facts)
        else:
            show = self._number(index, parameter, kind, facts)
        skipped = kind.skipped
        if not parameter.optional or skipped is None:
            return show
        return lambda call: None if skipped(call) else show(call)

    def _number(self, index: int, parameter: Parameter, kind: Kind, facts: Facts) -> Callable[[Call], Piece]:
        def show(call: Call) -> Piece:
            value = call.enter.args[index]
            text = kind.text(self._argument(call, value, parameter, facts, at_exit=parameter.writes))
            return Piece(hexadecimal(value) if text is None else text, parameter.writes)

        return show

    def _value(self, index: int, parameter: Parameter, kind: Kind, facts: Facts) -> Callable[[Call], Piece]:
        """Of a kind whose text depends on the value alone."""
        known: dict[int, Piece] = {}
        number = self._number(index, parameter, kind, facts)

        def show(call: Call) -> Piece:
            value = call.enter.args[index]
            found = known.get(value)
            if found is None:
                found = number(call)
                _remember(known, value, found, _MOST_VALUES)
            return found

        return show

    def _pointer(self, index: int, parameter: Parameter, kind: Kind, facts: Facts) -> Callable[[Call], Piece]:
        null = Piece("NULL", parameter.writes and not parameter.reads)
        text_of, writes = kind.text, parameter.writes

        def show(call: Call) -> Piece:
            value = call.enter.args[index]
            if not value and not kind.null:
                return null
            before = after = None
            if parameter.reads:
                before = text_of(self._argument(call, value, parameter, facts, at_exit=False))
            if parameter.aside:
                return Piece(hexadecimal(value) if before is None else before, False)
            if writes and call.exit is not None and (parameter.on_failure or not call.failed):
                after = text_of(self._argument(call, value, parameter, facts, at_exit=True))
            if before is not None and after is not None:
                return Piece(before if before == after else f"{before} => {after}", True)
            text = after if after is not None else before
            return Piece(hexadecimal(value) if text is None else text, writes)

        return show

    def _argument(self, call: Call, value: int, parameter: Parameter, facts: Facts, *, at_exit: bool) -> Argument:
        memory = call.exit.memory if at_exit and call.exit is not None else call.enter.memory
        count = element_count(call, parameter) if parameter.size else None
        return Argument(value, parameter.given, count, memory, call, self.options, facts, at_exit)


def _remember(known: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Add what is likely to be asked for again."""
    if len(known) >= most:
        known.clear()
    known[key] = value


def element_count(call: Call, parameter: Parameter) -> int | None:
    """Returns how many elements the parameter points to, as its brackets say; None without brackets, or not known."""
    if not parameter.size:
        return None
    way, number, divisor = _counted(parameter.size)
    if way == "$":
        return -(-call.enter.args[number] // divisor)
    if way == "=":
        return max(call.exit.ret, 0) if call.exit is not None else None
    if way == "*$":
        memory = call.enter.memory if call.exit is None else call.exit.memory
        data = memory.read(call.enter.args[number], 4)
        return None if data is None or len(data) < 4 else int.from_bytes(data, "little")
    return number


@functools.cache
def _counted(size: str) -> tuple[str, int, int]:
    """How a parameter's elements are counted: the marks of its brackets, the number after them, and the divisor."""
    number, _, divisor = size.lstrip("*$=").partition("/")
    way = "*$" if size.startswith("*$") else size[0] if size[0] in "$=" else ""
    return way, int(number or 0), int(divisor or 1)
