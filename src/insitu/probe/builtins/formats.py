"""Checks the formats of printf() and its like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.plurals import counted
from insitu.probe import ast
from insitu.probe.output.printf_formats import Conversion, parse_format

if TYPE_CHECKING:
    from insitu.probe.passes.check.checker import Checker

__all__ = ["checked_format"]


def checked_format(checker: Checker, call: ast.Call) -> list[Conversion]:
    """The conversions of a call's format, its first argument: as many as there are further arguments.

    :raises ScriptError: for a conversion that does not exist, and another number of values.
    """
    text = checker.text(call.arguments[0], f"the format of {call.name}()")
    try:
        _, conversions = parse_format(text)
    except ValueError as error:
        raise checker.error(f"{call.name}: {error}", call.arguments[0]) from None
    given = len(call.arguments) - 1
    if given != len(conversions):
        raise checker.error(
            f"{call.name}: the format has {counted(len(conversions), 'conversion')},"
            f" but {counted(given, 'value is', 'values are')} given",
            call,
        )
    return conversions
