"""Looking into strings and bytes: strlen, strcap, strcontains, strstr, globmatch, memcmp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.glob import Glob, parse_glob
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.builtins.strings import address_of, text_length
from insitu.probe.builtins.substring import first_match
from insitu.probe.codegen.integers import blend, inside, inverted, negative, not_zero
from insitu.probe.codegen.loops import counted
from insitu.probe.codegen.lowering import Local
from insitu.probe.types import BOOL, INT64, UINT64, UNKNOWN, Array, Integer, Pointer, Record, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS", "bytes_of"]

_WORD = 8
_MAX_COMPARED = 1024
_MAX_SEARCHED = 4096  # bytes of a string: the verifier walks the search through it and allows 8192 branches
# Comparisons that a search for a known text may take: the verifier walks them one by one.
_MAX_COMPARISONS = 16384


def _check_text(checker: Checker, call: ast.Call, index: int) -> Type:
    """Type an argument that has to be text; an array of or pointer to characters is read by str()."""
    checker.known(checker.argument(call, index))
    call.arguments[index] = checker.as_text(operand(call, index))
    found = operand(call, index).type or UNKNOWN
    held = found.element if isinstance(found, Array) else found.target if isinstance(found, Pointer) else None
    if isinstance(held, Integer) and held.bytes == 1:
        call.arguments[index] = text = ast.Call(call.arguments[index].span, "str", [operand(call, index)])
        found = checker.infer(text)
    if not isinstance(found, String | Unknown):
        raise checker.error(f"{call.name}() takes a string, not {found}", call.arguments[index])
    return found


def _capacity(node: ast.Expression) -> int:
    assert isinstance(node.type, String)
    return node.type.capacity


# Lengths


def _check_length(checker: Checker, call: ast.Call) -> Type:
    _check_text(checker, call, 0)
    return UINT64


def _length(low: Lowering, call: ast.Call) -> str:
    subject = operand(call)
    with low.temporaries():
        return text_length(low, low.local(subject), _capacity(subject))


# Searching


def _check_searched(checker: Checker, call: ast.Call, index: int) -> None:
    """As _check_text(), for a string that is walked byte by byte."""
    found = _check_text(checker, call, index)
    if isinstance(found, String) and found.capacity > _MAX_SEARCHED:
        message = f"{call.name}() takes strings of at most {_MAX_SEARCHED} bytes, not {found.capacity}"
        raise checker.error(message, call.arguments[index], remedy=f"str(x, {_MAX_SEARCHED}) cuts one")


def _check_search(checker: Checker, call: ast.Call) -> Type:
    for index in (0, 1):
        _check_searched(checker, call, index)
    return INT64 if call.name == "strstr" else BOOL


def _index(low: Lowering, call: ast.Call) -> str:
    """The i64 of where the second string begins in the first, -1 when it does not occur."""
    haystack, needle = operand(call), operand(call, 1)
    if isinstance(needle, ast.StringLiteral) and _capacity(haystack) * len(needle.value) <= _MAX_COMPARISONS:
        return _literal_index(low, haystack, needle.value.split(b"\0")[0])
    return first_match(low, haystack, needle)


def _literal_index(low: Lowering, haystack: ast.Expression, wanted: bytes) -> str:
    """Compare all bytes of a text that is known, at every place."""
    emit = low.emit
    room, length = -(-_capacity(haystack) // _WORD) * _WORD, -(-(len(wanted) + 1) // _WORD) * _WORD
    found = low.permanent(8)
    emit.store("-1", found)
    with low.temporaries():
        # Zeros after the string, so that a comparison at its last byte reads no further.
        text = low.temporary(room + length)
        emit.zero(emit.offset(text, room), length)
        low.store(haystack, text)

        def at_place(start: str) -> None:
            here = emit.offset(text, start)
            differs = "0"
            for offset, byte in enumerate(wanted):
                other = emit.op("xor", emit.load(emit.offset(here, offset), 1), str(byte))
                differs = emit.op("or", differs, other)
            before = emit.load(found)
            match = emit.op("and", inverted(emit, not_zero(emit, differs)), negative(emit, before))
            emit.store(blend(emit, match, start, before), found)

        counted(low, room, at_place)
    return emit.load(found)


# Wildcards


def _glob(checker: Checker, call: ast.Call) -> Glob:
    pattern = checker.text(call.arguments[1], "the pattern of globmatch()")
    try:
        return parse_glob(pattern.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise checker.error(str(error), call.arguments[1]) from None


def _check_glob(checker: Checker, call: ast.Call) -> Type:
    _check_searched(checker, call, 0)
    _glob(checker, call)
    return BOOL


def _globmatch(low: Lowering, call: ast.Call) -> str:
    """Run the pattern's automaton over the text, byte by byte: the set of its states is the bits of a u64."""
    emit = low.emit
    subject = operand(call)
    glob = parse_glob(low.text(call.arguments[1]).encode("utf-8", "surrogateescape"))
    state = low.permanent(8)
    emit.store("1", state)
    with low.temporaries():
        text = low.local(subject)

        def at_byte(index: str) -> None:
            byte = emit.load(emit.offset(text, index), 1)
            accepted = str(glob.any_byte)
            for low_byte, high_byte, places in glob.ranges:
                within = inside(emit, byte, low_byte, high_byte)
                accepted = emit.op("or", accepted, emit.op("and", within, str(places)))
            before = emit.load(state)
            moved = emit.op("shl", emit.op("and", before, accepted), "1")
            after = emit.op("or", moved, emit.op("and", before, str(glob.stars)))
            emit.store(blend(emit, not_zero(emit, byte), after, before), state)

        counted(low, _capacity(subject), at_byte)
    return emit.op("and", emit.op("lshr", emit.load(state), str(glob.length)), "1")


# Bytes


def _check_memcmp(checker: Checker, call: ast.Call) -> Type:
    for index in (0, 1):
        found = checker.known(checker.argument(call, index))
        if not isinstance(found, Pointer | String | Array | Record | Integer | Unknown):
            raise checker.error(f"memcmp() compares bytes, not {found}", call.arguments[index])
    count = checker.literal(call.arguments[2], "the number of bytes of memcmp()")
    if not 0 < count <= _MAX_COMPARED:
        raise checker.error(f"memcmp() compares 1 to {_MAX_COMPARED} bytes", call.arguments[2])
    return INT64


def bytes_of(low: Lowering, node: ast.Expression, count: int) -> str:
    """The first ``count`` bytes of what a node is or points to, in a temporary, padded with zeros."""
    size = -(-count // _WORD) * _WORD
    pointer = low.temporary(size)
    low.emit.zero(pointer, size)
    place = Local(low.local(node)) if isinstance(node.type, String) else address_of(low, node)
    if isinstance(place, Local):
        assert node.type is not None
        low.emit.copy(pointer, place.pointer, min(size, -(-node.type.size // _WORD) * _WORD))
    else:
        low.read(pointer, count, place)
    return pointer


def _memcmp(low: Lowering, call: ast.Call) -> str:
    """-1, 0 or 1: words are compared from the last to the first, as numbers whose first byte is the highest."""
    emit = low.emit
    count = low.constant(operand(call, 2))
    result = "0"
    with low.temporaries():
        sides = [bytes_of(low, operand(call, index), count) for index in (0, 1)]
        for at in range((count - 1) // _WORD * _WORD, -1, -_WORD):
            words = [emit.load(emit.offset(side, at)) for side in sides]
            if count - at < _WORD:
                words = [emit.op("and", word, str((1 << 8 * (count - at)) - 1)) for word in words]
            left, right = (emit.value(f"call i64 @llvm.bswap.i64(i64 {word})") for word in words)
            order = emit.select(emit.value(f"icmp ult i64 {left}, {right}"), "-1", "1")
            result = emit.select(emit.value(f"icmp eq i64 {left}, {right}"), result, order)
    return result


BUILTINS: tuple[Builtin, ...] = (
    *function("strlen", (1, 1), _check_length, value=_length),
    *function(
        "strcap",
        (1, 1),
        _check_length,
        value=lambda low, call: str(low.constant(call)),
        constant=lambda checker, call: kind.capacity if isinstance(kind := operand(call).type, String) else None,
    ),
    *function("strstr", (2, 2), _check_search, value=_index),
    *function(
        "strcontains", (2, 2), _check_search, value=lambda low, call: low.emit.compare("sge", _index(low, call), "0")
    ),
    *function("globmatch", (2, 2), _check_glob, value=_globmatch),
    *function("memcmp", (3, 3), _check_memcmp, value=_memcmp),
)
