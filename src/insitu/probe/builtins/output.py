"""printf, print and the other functions that output: each sends a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation, Element
from insitu.probe.builtins.formats import checked_format
from insitu.probe.builtins.record_parts import append_part
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.lowering import Remote
from insitu.probe.codegen.records import located, send, send_filled, send_values
from insitu.probe.layout import EXIT_ASKED, RecordLayout
from insitu.probe.passes.check.dialect import holds_element, is_key_of_parts
from insitu.probe.types import (
    VOID,
    Array,
    Buffer,
    Integer,
    Pointer,
    Record,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
)

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

_MOST_STATUS = 255  # of a process; greater and negative ones become it, since those of their bits that fit may be 0
__all__ = ["BUILTINS"]


def _check_format(checker: Checker, call: ast.Call) -> Type:
    for index, conversion in enumerate(checked_format(checker, call), 1):
        argument = checker.argument(call, index)
        found = checker.known(argument)
        if isinstance(found, Unknown):
            continue
        if found == VOID or isinstance(found, Aggregation):
            raise checker.error(f"printf cannot print {'nothing' if found == VOID else found}", argument)
        wanted = f"%{conversion.letter} wants"
        if conversion.letter[0] == "r" and not isinstance(found, Buffer):
            raise checker.error(f"{wanted} a buffer, not {found}", argument, remedy="use buf(address, length)")
        if conversion.takes_integer and not isinstance(found, Integer | Pointer) and not is_scalar(found):
            raise checker.error(f"{wanted} a number, not {found}", argument, remedy="use %s")
        if conversion.letter == "s" and isinstance(argument, ast.Positional):
            call.arguments[index] = argument = checker.as_text(argument)
            found = checker.known(argument)
        if conversion.letter == "s" and isinstance(found, Pointer | Record | Array):
            raise checker.error(
                f"{wanted} a string, not {found}", argument, remedy="use str() for text at an address"
            )
        if conversion.letter == "s" and isinstance(found, Integer) and not found.enum:
            raise checker.error(f"{wanted} a string, not {found}", argument, remedy="use %d")
    return VOID


def _expressions(call: ast.Call, start: int = 1) -> list[ast.Expression]:
    return [a for a in call.arguments[start:] if isinstance(a, ast.Expression)]


def _printf(low: Lowering, call: ast.Call) -> str:
    if call.name == "printf" and low.prints_events:
        return "0"  # the events say the same
    send(low, call.name, low.text(call.arguments[0]), _expressions(call), append_part)
    return "0"


def _complaint(low: Lowering, call: ast.Call) -> str:
    """errorf() and warnf() print their location in the script."""
    names = (located(low, call.span),)
    send(low, call.name, low.text(call.arguments[0]), _expressions(call), append_part, names=names)
    return "0"


def _cat(low: Lowering, call: ast.Call) -> str:
    limit = low.options.max_cat_bytes
    send(low, "cat", low.text(call.arguments[0]), _expressions(call), append_part, numbers=(limit,))
    return "0"


def _check_print(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    if isinstance(subject, ast.MapAccess) and subject.key is None:
        entry = checker.maps.get(subject.name)
        if entry is None or isinstance(entry.value, Unknown):
            if checker.strict:
                checker.infer(subject)
            return VOID
        # print(@x) of a map with keys prints it all: its key is not an access.
        subject.type = entry.value
        for index in range(1, len(call.arguments)):
            checker.literal(call.arguments[index], "what follows the map in print()")
        return VOID
    if len(call.arguments) > 1:
        raise checker.error("only a whole map can be printed with top and div", call.arguments[1])
    found = checker.known(subject)
    if found == VOID:
        raise checker.error("this has no value", subject)
    if holds_element(found):
        if not isinstance(_loop_variable(subject), ast.Variable):
            raise checker.error(f"{found} can only be printed as print($kv) or print($kv.1)", subject)
    elif isinstance(found, Aggregation) and not isinstance(subject, ast.MapAccess):
        raise checker.error(f"{found}() has to be assigned to a map", subject)
    return VOID


def _loop_variable(subject: ast.Expression) -> ast.Expression:
    """``$kv`` of itself or of ``$kv.1``, in a loop over a map."""
    return subject.object if isinstance(subject, ast.Member | ast.Index) else subject


def _element_key(low: Lowering, subject: ast.Expression) -> tuple[int, ast.Expression]:
    """Which element of a map of aggregations ``@x[key]``, or what a loop found, means: the map's number, the key."""
    if isinstance(subject, ast.MapAccess):
        number, parts = low.layout.number(subject.name), subject.key or []
        if len(parts) == 1 and parts[0].type is not None and is_key_of_parts(parts[0].type):
            return number, parts[0]
    else:
        pair = _loop_variable(subject)
        assert isinstance(pair.type, Tuple) and isinstance(pair.type.elements[1], Element)
        number = low.layout.number(pair.type.elements[1].map)
        found = ast.Member(subject.span, pair, "0")
        found.type = pair.type.elements[0]
        if found.type == low.layout.maps[number].key:
            return number, found
        parts = [found]
    key = ast.TupleLiteral(subject.span, parts)
    key.type = low.layout.maps[number].key
    return number, key


def _print(low: Lowering, call: ast.Call) -> str:
    subject = operand(call)
    if isinstance(subject, ast.MapAccess) and subject.key is None:
        limits = [low.constant(a) for a in _expressions(call)]
        top, div = [*limits, 0, 0][:2]
        send_values(low, "print_map", "", numbers=(low.layout.number(subject.name), top, div))
    elif isinstance(subject.type, Aggregation) or (subject.type is not None and holds_element(subject.type)):
        number, key = _element_key(low, subject)
        send(low, "print_element", "", [key], append_part, numbers=(number,))
    else:
        send(low, "print", "", [subject], append_part)
    return "0"


def _check_exit(checker: Checker, call: ast.Call) -> Type:
    if call.arguments:
        status = checker.argument(call, 0)
        checker.scalar(status, "exit()")
        value = checker.constant(status)
        if value is not None and not 0 <= value <= _MOST_STATUS:
            raise checker.error(f"an exit status is 0 to {_MOST_STATUS}, not {value}", status)
    return VOID


def _leave_script(low: Lowering, status: str) -> None:
    # The record wakes user space; the map holds even if the ring is full.
    low.emit.store(low.emit.op("or", status, str(EXIT_ASKED)), low.emit.map_value(low.layout.exit_map()))
    send_values(low, "exit", "", [status])
    low.leave()


def _exit(low: Lowering, call: ast.Call) -> str:
    status = low.value(operand(call)) if call.arguments else "0"
    beyond = low.emit.value(f"icmp ugt i64 {status}, {_MOST_STATUS}")
    _leave_script(low, low.emit.select(beyond, str(_MOST_STATUS), status))
    return "0"


def _check_assert(checker: Checker, call: ast.Call) -> Type:
    checker.condition(checker.argument(call, 0))
    checker.text(call.arguments[1], "the message of assert()")
    return VOID


def _assert(low: Lowering, call: ast.Call) -> str:
    """Where the condition does not hold, an error and exit(1)."""
    emit = low.emit
    failed, held = emit.label(), emit.label()
    with low.temporaries():
        emit.branch_if(low.truth(operand(call)), held, failed)
    emit.block(failed)
    _, column = low.source.line_column(call.span.start)
    text = low.text(call.arguments[1]).replace("%", "%%")
    where = f"{low.source.where(call.span)}-{column + call.span.end - call.span.start}"
    send(low, "errorf", f"assertion failed: {text}", [], append_part, names=(where,))
    _leave_script(low, "1")
    emit.block(held)
    return "0"


def _check_time(checker: Checker, call: ast.Call) -> Type:
    if call.arguments:
        checker.text(call.arguments[0], "the format of time()")
    return VOID


def _time(low: Lowering, call: ast.Call) -> str:
    text = low.text(call.arguments[0]) if call.arguments else "%H:%M:%S\n"
    send_values(low, "time", text)
    return "0"


def _check_join(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "join()")
    if len(call.arguments) > 1:
        checker.text(call.arguments[1], "the separator of join()")
    return VOID


_JOIN_WORDS = 16
_JOIN_BYTES = 1024


def _join(low: Lowering, call: ast.Call) -> str:
    """The words of a NULL-terminated array of char*: each a string of its own in one record, missing ones empty."""
    emit = low.emit
    separator = low.text(call.arguments[1]) if len(call.arguments) > 1 else " "
    subject = operand(call)
    space = subject.type.space if isinstance(subject.type, Pointer) else Space.ANY
    address = low.value(subject)

    def fill(index: int, pointer: str) -> None:
        nonlocal address
        word = low.read_scalar(Remote(address, space), 8 * index, 8, False)
        # A null address reads as an empty string, and so does everything after it.
        emit.store("0", pointer)
        low.read_text(pointer, _JOIN_BYTES, Remote(word, space))
        ended = emit.value(f"icmp eq i64 {word}, 0")
        address = emit.select(ended, "0", address)

    fields = Tuple((String(_JOIN_BYTES),) * _JOIN_WORDS)
    send_filled(low, RecordLayout("join", separator, fields, ring=low.layout.ring_map()), fill)
    return "0"


BUILTINS: tuple[Builtin, ...] = (
    *function("printf", (1, 99), _check_format, value=_printf, statement=True),
    *function("errorf warnf", (1, 99), _check_format, value=_complaint, statement=True),
    *function("cat", (1, 99), _check_format, value=_cat, statement=True),
    *function("system", (1, 99), _check_format, value=_printf, statement=True, unsafe=True),
    *function("print", (1, 3), _check_print, value=_print, statement=True),
    *function("exit", (0, 1), _check_exit, value=_exit, statement=True),
    *function("assert", (2, 2), _check_assert, value=_assert, statement=True),
    *function("time", (0, 1), _check_time, value=_time, statement=True),
    *function("join", (1, 2), _check_join, value=_join, statement=True),
)
