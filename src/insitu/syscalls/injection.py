"""Fault injection: which calls fail, are delayed or bring a signal, and how strace(1)'s -e inject= says so."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest

__all__ = ["Injection", "parse_fault", "parse_injection"]

_WHEN = re.compile(r"(\d+)(?:\.\.(\d+))?(\+(\d+)?)?$")
_ENDLESS: Final = (1 << 63) - 1
_MOST_COUNT: Final = 65535
_MOST_ERROR: Final = 4095
_UNITS_US: Final = {"ns": 0.001, "us": 1, "ms": 1000, "s": 1_000_000}


class Injection(NamedTuple):
    """What happens to ``calls``, a set of (abi, number), at each thread's invocations that ``when`` chooses.

    ``result`` is what the call returns without being made (-2 for ENOENT); None: it is made.
    """

    calls: frozenset[tuple[str, int]]
    result: int | None = None
    signal: int = 0
    delay_enter_us: int = 0
    delay_exit_us: int = 0
    when: tuple[int, int, int] = (1, _ENDLESS, 1)
    """First and last invocation, counted from 1, and the step between them."""

    def applies(self, invocation: int) -> bool:
        """Returns whether it changes a thread's ``invocation``, counted from 1, of one of the calls."""
        first, last, step = self.when
        return first <= invocation <= last and (invocation - first) % step == 0


def parse_injection(
    text: str, resolve: Callable[[str], frozenset[tuple[str, int]]], *, error: int | None = None
) -> Injection:
    """Returns what "openat,%file:error=ENOENT:when=3+2" means. ``resolve`` is given the part before the first colon.

    ``error`` is injected where the text names neither error nor retval. Raises InsituError (status 2).
    """
    calls, *options = text.split(":")
    injection = Injection(resolve(calls))
    for option in options:
        name, equals, value = option.partition("=")
        if name == "retval" and injection.result is None:
            injection = injection._replace(result=_number(option, value, (1 << 64) - 1))
        elif name == "error" and injection.result is None:
            injection = injection._replace(result=-_error(value))
        elif name == "signal":
            injection = injection._replace(signal=_signal(value))
        elif name == "delay_enter":
            injection = injection._replace(delay_enter_us=_delay(option, value))
        elif name == "delay_exit":
            injection = injection._replace(delay_exit_us=_delay(option, value))
        elif name == "when":
            injection = injection._replace(when=_when(option, value))
        elif name in ("error", "retval"):
            raise _invalid(option, "a call returns either an error or a value")
        else:
            raise _invalid(
                option, "error, retval, signal, delay_enter, delay_exit or when" if equals else "NAME=VALUE"
            )
    if injection.result is None and error is not None:
        injection = injection._replace(result=-error)
    if injection[1:5] == Injection(frozenset())[1:5]:
        raise _invalid(text, "give an error, a retval, a signal or a delay")
    return injection


def parse_fault(text: str, resolve: Callable[[str], frozenset[tuple[str, int]]]) -> Injection:
    """Returns what -e fault=TEXT means: an injected error, ENOSYS unless the text names one.

    Raises InsituError (status 2).
    """
    return parse_injection(text, resolve, error=errno.ENOSYS)


def _invalid(option: str, remedy: str) -> InsituError:
    return InsituError(f"invalid injection {option!r}", remedy=remedy, status=2)


def _number(option: str, text: str, most: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise _invalid(option, f"a number from 0 to {most}")
    return number


def _error(text: str) -> int:
    by_name = {name: code for code, name in errno.errorcode.items()}
    if text in by_name:
        return by_name[text]
    if not text.isdecimal() or not 0 < int(text) <= _MOST_ERROR:
        raise InsituError(f"unknown error {text!r}{nearest(text, by_name)}", status=2)
    return int(text)


def _signal(text: str) -> int:
    by_name = {each.name: int(each) for each in signal.Signals}
    name = text.upper()
    found = by_name.get(name) or by_name.get(f"SIG{name}")
    if found:
        return found
    if not text.isdecimal() or not 0 < int(text) <= 64:
        raise InsituError(f"unknown signal {text!r}{nearest(name, by_name)}", status=2)
    return int(text)


def _delay(option: str, text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})(ns|us|ms|s)?", text)
    if found is None:
        raise _invalid(option, "a time such as 500, 500us, 20ms or 1s")
    return int(int(found[1]) * _UNITS_US[found[2] or "us"])


def _when(option: str, text: str) -> tuple[int, int, int]:
    found = _WHEN.match(text)
    remedy = f"FIRST[..LAST][+[STEP]], each from 1 to {_MOST_COUNT}"
    if found is None:
        raise _invalid(option, remedy)
    first, last, plus, step = found.groups()
    numbers = [int(each) for each in (first, last, step) if each is not None]
    if not all(0 < number <= _MOST_COUNT for number in numbers) or (last and int(last) < int(first)):
        raise _invalid(option, remedy)
    if last:
        return int(first), int(last), int(step or 1)
    return int(first), _ENDLESS if plus else int(first), int(step or 1)
