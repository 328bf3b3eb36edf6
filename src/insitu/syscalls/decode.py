"""From a call to its text: name, arguments, result, as strace(1) shows them."""

from __future__ import annotations

from typing import NamedTuple

from insitu.syscalls.argument import Argument, TextOptions, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.facts import Facts, facts_of
from insitu.syscalls.kinds import KINDS
from insitu.syscalls.signature import Parameter, Signature, signatures

__all__ = ["Decoder", "Piece", "call_name", "signature_of"]


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


def _by_type(type_: str) -> Parameter:
    if "*" in type_:
        return Parameter("path") if type_.replace(" ", "") == "constchar*" else Parameter("pointer")
    if type_ == "umode_t":
        return Parameter("mode")
    unsigned = type_.startswith(("unsigned", "size_t", "u32", "u64", "__u"))
    long = "long" in type_ or type_ in ("size_t", "ssize_t", "loff_t", "off_t", "u64", "__u64")
    return Parameter(("unsigned" if unsigned else "int") + ("_long" if long else ""))


class Decoder:
    """Turns calls into text."""

    def __init__(self, options: TextOptions | None = None) -> None:
        self.options = options or TextOptions()

    def arguments(self, call: Call) -> list[Piece]:
        """Returns the text of each argument that strace(1) shows. Of a call that has not returned, what the kernel
        writes is shown as an address."""
        enter = call.enter
        facts = facts_of(enter.abi)
        pieces = []
        for index, parameter in enumerate(signature_of(enter.abi, enter.nr).parameters):
            kind = KINDS[parameter.kind]
            if parameter.optional and kind.skipped is not None and kind.skipped(call):
                continue
            pieces.append(self._piece(call, index, parameter, facts))
        return pieces

    def _piece(self, call: Call, index: int, parameter: Parameter, facts: Facts) -> Piece:
        value = call.enter.args[index]
        kind = KINDS[parameter.kind]
        if kind.capture is None:
            text = kind.text(self._argument(call, value, parameter, facts, at_exit=parameter.writes))
            return Piece(hexadecimal(value) if text is None else text, parameter.writes)
        if not value and not kind.null:
            return Piece("NULL", parameter.writes and not parameter.reads)
        before = after = None
        if parameter.reads:
            before = kind.text(self._argument(call, value, parameter, facts, at_exit=False))
        if parameter.aside:
            return Piece(hexadecimal(value) if before is None else before, False)
        if parameter.writes and call.exit is not None and (parameter.on_failure or not call.failed):
            after = kind.text(self._argument(call, value, parameter, facts, at_exit=True))
        if before is not None and after is not None:
            return Piece(before if before == after else f"{before} => {after}", True)
        text = after if after is not None else before
        return Piece(hexadecimal(value) if text is None else text, parameter.writes)

    def _argument(self, call: Call, value: int, parameter: Parameter, facts: Facts, *, at_exit: bool) -> Argument:
        memory = call.exit.memory if at_exit and call.exit is not None else call.enter.memory
        count = element_count(call, parameter)
        return Argument(value, parameter.given, count, memory, call, self.options, facts, at_exit)

    def result(self, call: Call) -> str:
        """Returns what follows the ``=``: "3", "-1 ENOENT (No such file or directory)", "? ERESTARTSYS (...)"."""
        if call.exit is None:
            return "?"
        enter, ret = call.enter, call.exit.ret
        facts = facts_of(enter.abi)
        injected = (" (INJECTED)" if call.exit.injected else "") + (" (DELAYED)" if call.exit.delayed else "")
        if call.failed:
            return facts.error_text(-ret) + injected
        returns = signature_of(enter.abi, enter.nr).returns
        argument = Argument(
            ret & 0xFFFFFFFFFFFFFFFF, returns.given, None, call.exit.memory, call, self.options, facts, True
        )
        text = KINDS[returns.kind].text(argument)
        return (str(ret) if text is None else text) + injected


def element_count(call: Call, parameter: Parameter) -> int | None:
    """Returns how many elements the parameter points to, as its brackets say; None without brackets, or not known."""
    size = parameter.size
    if not size:
        return None
    if size == "=":
        return max(call.exit.ret, 0) if call.exit is not None else None
    if size.startswith("*$"):
        memory = call.enter.memory if call.exit is None else call.exit.memory
        data = memory.read(call.enter.args[int(size[2:])], 4)
        return None if data is None or len(data) < 4 else int.from_bytes(data, "little")
    if not size.startswith("$"):
        return int(size)
    position, _, divisor = size[1:].partition("/")
    return -(-call.enter.args[int(position)] // int(divisor or 1))
