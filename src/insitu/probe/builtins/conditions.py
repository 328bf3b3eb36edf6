"""What the compiler itself decides: is_ptr() and its like, static_assert, fail, kfunc_exist, getopt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand, variable
from insitu.probe.codegen.integers import signed64
from insitu.probe.output.printf_formats import parse_format
from insitu.probe.passes.check.folding import number as parse_number
from insitu.probe.types import BOOL, INT64, UINT64, UNKNOWN, VOID, Array, Integer, Pointer, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]


def _constant(low: Lowering, call: ast.Call) -> str:
    return signed64(low.constant(call))


# What kind of value something is


def _predicate(name: str, holds: Callable[[ast.Expression, Type], bool]) -> tuple[Builtin, ...]:
    def check(checker: Checker, call: ast.Call) -> Type:
        checker.known(checker.argument(call, 0))
        return BOOL

    def constant(checker: Checker, call: ast.Call) -> int | None:
        subject = operand(call)
        if subject.type is None or isinstance(subject.type, Unknown):
            return None
        return int(holds(subject, subject.type))

    return function(name, (1, 1), check, value=_constant, constant=constant)


_LITERALS = (ast.Integer, ast.StringLiteral, ast.Positional)


def _check_is_text(checker: Checker, call: ast.Call) -> Type:
    found = checker.known(checker.argument(call, 0))
    if not isinstance(found, String | Unknown):
        raise checker.error(f"expected a string, not {found}", call.arguments[0])
    return VOID


# What stops the compiler


def _check_static_assert(checker: Checker, call: ast.Call) -> Type:
    condition = checker.argument(call, 0)
    checker.condition(condition)
    message = checker.text(call.arguments[1], "the message of static_assert()")
    held = checker.constant(condition)
    if checker.strict and not held and not checker.unreached:
        if held is None:
            raise checker.error("static_assert() needs a constant condition", condition)
        raise checker.error(message, call)
    return VOID


def _check_fail(checker: Checker, call: ast.Call) -> Type:
    text = checker.text(call.arguments[0], "the message of fail()")
    values: list[int | str] = []
    for index in range(1, len(call.arguments)):
        node = checker.argument(call, index)
        checker.infer(node)
        number = checker.constant(node)
        values.append(checker.text(node, "a value of fail()") if number is None else number)
    try:
        parts, conversions = parse_format(text)
        python = "".join(
            [parts[0].replace("%", "%%")]
            + [c.python + part.replace("%", "%%") for c, part in zip(conversions, parts[1:], strict=True)]
        )
        message = python % tuple(values)
    except (ValueError, TypeError) as error:
        raise checker.error(f"fail: {error}", call) from None
    if checker.strict and not checker.unreached:
        raise checker.error(message.rstrip("\n"), call)
    return UNKNOWN  # it fits wherever a value is wanted


# Functions of the kernel that programs could call


def _check_kernel_function(checker: Checker, call: ast.Call) -> Type:
    checker.text(call.arguments[0], "the function's name")
    return BOOL


def _exists(checker: Checker, call: ast.Call) -> int:
    from insitu.symbols.btf import Kind

    try:
        return int(checker.context.btf.find(checker.text(call.arguments[0], "the name"), Kind.FUNC) is not None)
    except InsituError:  # a kernel that describes no types describes no such functions
        return 0


# Options of the script


def _check_getopt(checker: Checker, call: ast.Call) -> Type:
    name = checker.text(call.arguments[0], "the name of an option")
    if len(call.arguments) > 2:
        checker.text(call.arguments[2], "the description of an option")
    checker.option_names.add(name)
    value = _option(checker, call, name)
    if isinstance(value, bytes):
        call.arguments[1] = literal = ast.StringLiteral(operand(call, 1).span, value)
        literal.type = String(len(value) + 1)
        return literal.type
    if not _is_number(call):
        return BOOL
    return UINT64 if value >= 2**63 or operand(call, 1).type == UINT64 else INT64


def _is_number(call: ast.Call) -> bool:
    default = operand(call, 1) if len(call.arguments) > 1 else None
    return default is not None and not (isinstance(default, ast.Identifier) and default.name in ("true", "false"))


def _option(checker: Checker, call: ast.Call, name: str) -> bytes | int:
    """The option as given, or its default, whose type is the option's."""
    given = checker.options.named.get(name)
    default = operand(call, 1) if len(call.arguments) > 1 else None
    if isinstance(default, ast.StringLiteral):
        return default.value if given is None else given.encode("utf-8", "surrogateescape")
    if _is_number(call):
        assert default is not None
        if given is None:
            return checker.literal(default, "the default of an option")
        checker.infer(default)
        value = parse_number(given) if given else None
        if value is None:
            raise checker.error(f"--{name} needs a number, not {given!r}", call)
        return value
    if given is None:
        return checker.literal(default, "the default of an option") if default is not None else 0
    truth = {"": 1, "1": 1, "true": 1, "0": 0, "false": 0}.get(given.lower())
    if truth is None:
        raise checker.error(f"--{name} must be true or false, not {given!r}", call)
    return truth


def _getopt_constant(checker: Checker, call: ast.Call) -> int | None:
    value = _option(checker, call, checker.text(call.arguments[0], "the name"))
    return value if isinstance(value, int) else None


BUILTINS: tuple[Builtin, ...] = (
    *_predicate("is_array", lambda node, kind: isinstance(kind, Array)),
    *_predicate("is_integer", lambda node, kind: isinstance(kind, Integer)),
    *_predicate("is_unsigned_integer", lambda node, kind: isinstance(kind, Integer) and not kind.signed),
    *_predicate("is_ptr", lambda node, kind: isinstance(kind, Pointer)),
    *_predicate("is_str", lambda node, kind: isinstance(kind, String)),
    *_predicate(
        "is_literal",
        lambda node, kind: (
            isinstance(node, _LITERALS) or (isinstance(node, ast.Identifier) and node.name in ("true", "false"))
        ),
    ),
    *function("assert_str", (1, 1), _check_is_text, value=lambda low, call: "0", statement=True),
    *variable(
        "default_str_length", lambda checker, node: UINT64, value=lambda low, node: str(low.options.max_strlen)
    ),
    *function(
        "default_str_length",
        (0, 0),
        lambda checker, call: UINT64,
        value=_constant,
        constant=lambda checker, call: checker.options.max_strlen,
    ),
    *function("static_assert", (2, 2), _check_static_assert, value=lambda low, call: "0", statement=True),
    *function("fail", (1, 99), _check_fail, value=lambda low, call: "0", statement=True),
    *function("kfunc_exist", (1, 1), _check_kernel_function, value=_constant, constant=_exists),
    # Programs call the kernel by its helpers only.
    *function("kfunc_allowed", (1, 1), _check_kernel_function, value=_constant, constant=lambda checker, call: 0),
    *function(
        "getopt",
        (1, 3),
        _check_getopt,
        value=_constant,
        store=lambda low, call, pointer: low.store(operand(call, 1), pointer),
        constant=_getopt_constant,
    ),
)
