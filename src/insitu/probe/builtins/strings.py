"""str, buf and functions on strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.comparisons import GROUP, string_difference
from insitu.probe.codegen.lowering import Local, Place, Remote
from insitu.probe.codegen.point_names import store_point_name
from insitu.probe.codegen.record_parts import bounded
from insitu.probe.types import (
    BOOL,
    INT64,
    Array,
    Buffer,
    Integer,
    NamedNumber,
    Pointer,
    Record,
    Space,
    String,
    Type,
    Unknown,
    stored_size,
)

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

# The length of longer strings is what the kernel's helper copies.
_MOST_UNROLLED = 256
# Bytes of user memory, none where they cannot be read.
_USER_MEMORY = ("user_string", "user_bytes")

__all__ = ["BUILTINS", "address_of", "append_buffer", "append_text", "text_length", "text_place"]


def address_of(low: Lowering, node: ast.Expression) -> Place:
    """Where the bytes are that a pointer, number, array or string means."""
    if isinstance(node.type, String | Array | Record):
        place = low.place(node)
        if isinstance(place, Local) and place.inner:
            return Remote(low.emit.address(place.pointer), Space.KERNEL)
        return place
    space = node.type.space if isinstance(node.type, Pointer) else Space.ANY
    return Remote(low.value(node), readable(space))


def readable(space: Space) -> Space:
    """The space to read text from: kernel types do not say which pointers lead to user memory, so try both."""
    return Space.USER if space == Space.USER else Space.ANY


def _check_address(checker: Checker, node: ast.Expression, what: str) -> None:
    found = checker.known(node)
    if not isinstance(found, Integer | Pointer | String | Array | Record | Unknown):
        raise checker.error(f"{what} takes an address, not {found}", node)


def _given_text(checker: Checker, node: ast.Expression) -> bytes | None:
    """The text of a positional parameter, or what follows some bytes of it (``$1 + 2``); None for anything else."""
    skipped: int | None = 0
    given = node
    if isinstance(node, ast.Binary) and node.operator == "+":
        given, skipped = node.left, checker.constant(node.right)
    if not isinstance(given, ast.Positional) or skipped is None:
        return None
    text = str(checker.positional_text(given)).encode("utf-8", "surrogateescape")
    if not 0 <= skipped <= len(text):
        raise checker.error(f"outside the parameter, which has {len(text)} bytes", node)
    return text[skipped:]


def _check_str(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    capacity = checker.options.max_strlen
    text = _given_text(checker, subject)
    if text is not None:
        subject = call.arguments[0] = ast.StringLiteral(subject.span, text)
    if len(call.arguments) > 1:
        checker.scalar(checker.argument(call, 1), "the length of str()")
        length = checker.constant(checker.argument(call, 1))
        if length is not None:
            if length < 0:
                raise checker.error("the length of str() must not be negative", call.arguments[1])
            # Of text in memory the length counts the zero at its end; of text that is known here it does not.
            capacity = min(capacity, length + 1 if isinstance(subject, ast.StringLiteral) else max(length, 1))
    if isinstance(named := checker.known(subject), NamedNumber) and named.is_text:
        return String(min(named.room, capacity) if len(call.arguments) > 1 else named.room)
    _check_address(checker, subject, "str()")
    if isinstance(subject, ast.StringLiteral):
        return String(min(len(subject.value) + 1, capacity))
    if isinstance(subject.type, String):
        return String(min(subject.type.capacity, capacity)) if len(call.arguments) > 1 else subject.type
    if isinstance(subject.type, Array) and subject.type.count:
        capacity = min(capacity, subject.type.size + 1)
    return String(capacity)


def _str(low: Lowering, call: ast.Call, pointer: str) -> None:
    subject = operand(call)
    assert isinstance(call.type, String)
    capacity = call.type.capacity
    if isinstance(subject, ast.StringLiteral):
        cut = ast.StringLiteral(subject.span, subject.value[: capacity - 1])
        cut.type = call.type
        low.store(cut, pointer)
        return
    if isinstance(subject.type, NamedNumber):
        store_point_name(low, subject, pointer, call.type)
        return
    limit = _limit(low, call, capacity)
    place = address_of(low, subject)
    if isinstance(place, Local) and isinstance(subject.type, String) and len(call.arguments) == 1:
        low.convert(place, subject.type, pointer, call.type)
        return
    if isinstance(place, Local):
        place = Remote(low.emit.address(place.pointer), Space.KERNEL)
    room = capacity if len(call.arguments) == 1 else capacity - 1  # a length counts the zero
    if limit == capacity and isinstance(subject.type, String | Array) and subject.type.size <= room:
        low.zero(pointer, stored_size(call.type))
        low.read_characters(pointer, place, subject.type.size)
    else:
        low.read_string(pointer, capacity, place, limit)


def _limit(low: Lowering, call: ast.Call, capacity: int) -> int | str:
    """The most bytes, with the zero, that a call of str() asks for."""
    if len(call.arguments) > 1 and low.constant_or_none(operand(call, 1)) is None:
        return _clamped(low, low.value(operand(call, 1)), capacity)
    return capacity


def append_text(low: Lowering, call: ast.Call, pointer: str) -> str | None:
    """What str() of an address reads, without padding: its length without the zero (negative: an error).

    None for any other call; nothing is done then.
    """
    if not _reads_address(call):
        return None
    assert isinstance(call.type, String)
    limit = _limit(low, call, call.type.capacity)
    place = address_of(low, operand(call))
    assert isinstance(place, Remote)
    return low.emit.op("sub", low.read_text(pointer, limit, place), "1")


def text_place(low: Lowering, node: ast.Expression) -> Callable[[], Remote] | None:
    """What lowers the address whose text str() reads, as far as there is room; None for any other expression."""
    if not isinstance(node, ast.Call) or len(node.arguments) != 1 or not _reads_address(node):
        return None

    def found() -> Remote:
        place = address_of(low, operand(node))
        assert isinstance(place, Remote)
        return place

    return found


def _reads_address(call: ast.Call) -> bool:
    """Whether it is str() of an address."""
    subject = call.arguments[0] if call.arguments else None
    if call.name not in ("str", "kstr", "ustr") or not isinstance(subject, ast.Expression):
        return False
    held = String | Array | Record | NamedNumber
    return not (isinstance(subject, ast.StringLiteral) or isinstance(subject.type, held))


def _clamped(low: Lowering, value: str, limit: int) -> str:
    """``value`` held to 0..limit, in a form whose bounds the verifier sees."""
    emit = low.emit
    hidden = emit.hidden(value)
    inside = emit.value(f"icmp ult i64 {hidden}, {limit}")
    return emit.select(inside, hidden, str(limit))


def _check_buf(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    _check_address(checker, subject, "buf()")
    capacity = checker.options.max_strlen
    if len(call.arguments) > 1:
        checker.scalar(checker.argument(call, 1), "the length of buf()")
        length = checker.constant(checker.argument(call, 1))
        if length is not None:
            if not 0 < length <= 4096:
                raise checker.error("the length of buf() must be 1 to 4096", call.arguments[1])
            capacity = length
    elif isinstance(subject.type, Array | String):
        capacity = max(1, min(subject.type.size, 4096))
    else:
        raise checker.error("buf() needs a length, except for arrays", call)
    return Buffer(capacity)


def _buf(low: Lowering, call: ast.Call, pointer: str) -> None:
    subject = operand(call)
    assert isinstance(call.type, Buffer)
    emit = low.emit
    capacity = call.type.capacity
    length = str(capacity)
    if len(call.arguments) > 1 and not isinstance(call.arguments[1], ast.Integer):
        length = _clamped(low, low.value(operand(call, 1)), capacity)
    emit.store(length, pointer)
    data = emit.offset(pointer, 8)
    low.zero(data, -(-capacity // 8) * 8)
    if isinstance(subject, ast.StringLiteral):
        for at, byte in enumerate(subject.value[:capacity]):
            emit.store(str(byte), emit.offset(data, at), 1)
        return
    place = address_of(low, subject)
    if isinstance(place, Local):
        assert subject.type is not None
        low.copy(data, place.pointer, min(-(-subject.type.size // 8) * 8, -(-capacity // 8) * 8))
    else:
        low.read(data, length, place)


def append_buffer(low: Lowering, call: ast.Call, pointer: str) -> str | None:
    """What buf() of an address reads: its length. None for any other call; nothing is done then."""
    subject = call.arguments[0] if call.arguments else None
    if call.name not in ("buf", *_USER_MEMORY) or len(call.arguments) < 2 or not isinstance(subject, ast.Expression):
        return None
    if isinstance(subject, ast.StringLiteral) or isinstance(subject.type, String | Array | Record):
        return None
    assert isinstance(call.type, Buffer)
    length = _clamped(low, low.value(operand(call, 1)), call.type.capacity)
    if call.name == "user_string":
        return low.read_text(pointer, length, Remote(low.value(subject), Space.USER))
    if call.name == "user_bytes":
        failed = low.emit.truth(low.read(pointer, length, Remote(low.value(subject), Space.USER)))
        return low.emit.select(failed, "0", length)
    place = address_of(low, subject)
    assert isinstance(place, Remote)
    low.read(pointer, length, place)
    return length


def _check_user_memory(checker: Checker, call: ast.Call) -> Type:
    for index, what in enumerate(("the address", "the length")):
        checker.scalar(checker.argument(call, index), f"{what} of {call.name}()")
    return Buffer(checker.options.max_strlen)


def _user_memory(low: Lowering, call: ast.Call, pointer: str) -> None:
    """Outside of emit(): as a buffer that knows its length."""
    assert isinstance(call.type, Buffer)
    emit = low.emit
    data = emit.offset(pointer, 8)
    low.zero(data, -(-call.type.capacity // 8) * 8)
    length = append_buffer(low, call, data)
    assert length is not None
    emit.store(bounded(low, call.type, length), pointer)


def _check_user_readable(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "user_readable()")
    return BOOL


def _user_readable(low: Lowering, call: ast.Call) -> str:
    with low.temporaries():
        place = Remote(low.value(operand(call)), Space.USER)
        return low.emit.compare("eq", low.read(low.temporary(8), 1, place, may_fail=True), "0")


def _check_two_strings(checker: Checker, call: ast.Call) -> Type:
    for index in (0, 1):
        checker.known(checker.argument(call, index))
        call.arguments[index] = checker.as_text(operand(call, index))
        found = operand(call, index).type
        if not isinstance(found, String | Unknown):
            raise checker.error(f"{call.name}() compares strings, not {found}", call.arguments[index])
    if len(call.arguments) == 3 and checker.literal(call.arguments[2], "the length of strncmp()") < 0:
        raise checker.error("the length of strncmp() must not be negative", call.arguments[2])
    return INT64


def _strncmp(low: Lowering, call: ast.Call) -> str:
    left, right = operand(call), operand(call, 1)
    limit = low.constant(operand(call, 2)) if len(call.arguments) == 3 else None
    difference = string_difference(low, left, right, limit)
    return low.emit.compare("ne", difference, "0")


def _check_concat(checker: Checker, call: ast.Call) -> Type:
    """Room for both; at most as much as the longest string has, or as either has by itself."""
    found = [checker.known(checker.argument(call, index)) for index in (0, 1)]
    for kind, argument in zip(found, call.arguments, strict=True):
        if not isinstance(kind, String | Unknown):
            raise checker.error(f"str_concat() takes strings, not {kind}", argument)
    capacities = [kind.capacity for kind in found if isinstance(kind, String)]
    most = max([checker.options.max_strlen, *capacities])
    wanted = min(sum(capacities) - 1, most) if capacities else 1
    # Of $s = str_concat($s, "x"), which is longer at every walk, the result gets all the room at once.
    grows = isinstance(call.type, String) and wanted > call.type.capacity
    return String(most if grows else wanted)


def _concat(low: Lowering, call: ast.Call, pointer: str) -> None:
    emit = low.emit
    left, right = operand(call), operand(call, 1)
    assert isinstance(left.type, String) and isinstance(right.type, String) and call.type is not None
    size = -(-(left.type.capacity + right.type.capacity) // 8) * 8
    with low.temporaries():
        whole, second = low.temporary(size), low.local(right)
        low.convert(Local(low.local(left)), left.type, whole, String(size))
        length = _clamped(low, text_length(low, whole, left.type.capacity), left.type.capacity - 1)
        # The verifier allows an offset to be added to an address, and nothing else that LLVM may make of it.
        length = emit.hidden(length)
        place = Remote(emit.address(second), Space.KERNEL)
        low.read_text(emit.offset(whole, length), right.type.capacity, place)
        low.convert(Local(whole), String(size), pointer, call.type)
        cut = call.type.size
        if cut < size:
            emit.store("0", emit.offset(pointer, cut - 1), 1)


def text_length(low: Lowering, pointer: str, capacity: int) -> str:
    """The i64 of how long a string is: it is zero after its end, so that its bytes that are not zero count."""
    emit = low.emit
    if capacity > _MOST_UNROLLED:
        with low.temporaries():
            copy = low.temporary(capacity + 1)
            place = Remote(emit.address(pointer), Space.KERNEL)
            return emit.op("sub", low.read_text(copy, capacity + 1, place), "1")
    ones, low_bits, high_bits = 0x0101010101010101, 0x7F7F7F7F7F7F7F7F, 0x8080808080808080
    total = "0"
    for at in range(0, capacity, 8):
        word = emit.load(emit.offset(pointer, at))
        # The high bit of each byte that is not zero.
        marked = emit.op("or", emit.op("add", emit.op("and", word, str(low_bits)), str(low_bits)), word)
        marked = emit.op("lshr", emit.op("and", marked, str(high_bits - (1 << 64))), "7")
        number = emit.op("lshr", emit.op("mul", marked, str(ones)), "56")
        total = emit.op("add", total, number)
        if at % GROUP == 0:
            total = emit.hidden(total)
    return total


def _named(name: str, kind: str) -> tuple[Builtin, ...]:
    """A function that returns a number which user space prints as text."""

    def check(checker: Checker, call: ast.Call) -> Type:
        checker.scalar(checker.argument(call, 0), f"{name}()")
        return NamedNumber(kind)

    return function(name, (1, 1), check, value=lambda low, call: low.value(operand(call)))


BUILTINS: tuple[Builtin, ...] = (
    *function("str kstr ustr", (1, 2), _check_str, store=_str),
    *function("buf", (1, 2), _check_buf, store=_buf),
    *function(" ".join(_USER_MEMORY), (2, 2), _check_user_memory, store=_user_memory),
    *function("user_readable", (1, 1), _check_user_readable, value=_user_readable),
    *function("strncmp", (3, 3), _check_two_strings, value=_strncmp),
    *function("strcmp", (2, 2), _check_two_strings, value=_strncmp),
    *_named("strerror", "errno"),
    *_named("syscall_name", "syscall"),
    *_named("signal_name", "signal"),
    *function("str_concat", (2, 2), _check_concat, store=_concat),
)
