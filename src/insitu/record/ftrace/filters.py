"""Event filters (Documentation/trace/events.rst), checked against the event's format before the kernel sees them.

``parse_filter`` accepts what the kernel's parser accepts, but for comparisons that can never be as written (a string
modifier on text in the record, an array, a number wider than its field, an operator with nothing after it).
What is written to the kernel is made from the parsed tree (``Filter.text``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from insitu.kernel.tracefs import EventFormat, Field
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.event_fields import declared, field_kind, find_field, unknown_field

__all__ = ["Comparison", "Filter", "Joined", "Negated", "Tree", "filter_at", "parse_filter"]

_MOST_BYTES: Final = 4095  # event_filter_write(): less than a page
_MOST_TEXT: Final = 255  # MAX_FILTER_STR_VAL, with its end
_MOST_DIGITS: Final = 23  # of num_buf in parse_pred()
_MOST_NESTED: Final = 200

_FIELD: Final = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)(?P<modifier>\.\w+)?", re.ASCII)
_OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "&", "~")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_WORD: Final = re.compile(r"-?[0-9A-Za-z_]+", re.ASCII)
_CPUS: Final = re.compile(r"CPUS\{([^}]*)\}")
_CPU_RANGE: Final = re.compile(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", re.ASCII)


class Comparison(Struct, frozen=True):
    """``field operator value``. ``value`` is a number, text (of ``form`` "function" a symbol) or ranges of CPUs."""

    field: Field
    operator: str
    value: int | str | tuple[tuple[int, int], ...]
    form: str = ""  # "ustring" or "function"

    def __str__(self) -> str:
        if isinstance(self.value, int):
            shown = str(self.value)
        elif isinstance(self.value, tuple):
            ranges = (f"{first}-{last}" if last > first else f"{first}" for first, last in self.value)
            shown = f"CPUS{{{','.join(ranges)}}}"
        elif self.form == "function":
            shown = f"{self.value} "  # the kernel reads a function's name up to the next blank
        else:
            quote = "'" if '"' in self.value else '"'
            shown = f"{quote}{self.value}{quote}"
        return f"{self.field.name}{'.' * bool(self.form)}{self.form} {self.operator} {shown}"


class Joined(Struct, frozen=True):
    """Parts joined by ``&&`` or ``||``."""

    operator: str
    parts: tuple[Tree, ...]

    def __str__(self) -> str:
        parts = (f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts)
        return f" {self.operator} ".join(parts)


class Negated(Struct, frozen=True):
    """What must not hold."""

    part: Tree

    def __str__(self) -> str:
        return f"!({self.part})"


Tree = Comparison | Joined | Negated


class Filter(Struct, frozen=True):
    """A filter that suits its event."""

    tree: Tree

    @property
    def text(self) -> str:
        """As it is written to the event's filter file."""
        return str(self.tree).strip()

    @property
    def newer_syntax(self) -> str:
        """What not every kernel's filters have: ".function" (6.3), "CPUS{}" (6.6), ".ustring" (5.17); else ""."""
        for each in _comparisons(self.tree):
            if each.form or isinstance(each.value, tuple):
                return f".{each.form}" if each.form else "CPUS{}"
        return ""


def parse_filter(text: str, event: EventFormat, *, cpus: int = 0, name: str = "-F") -> Filter:
    """Read a filter of an event. ``cpus``: so many CPUs are possible (0: unknown).

    :raises ScriptError: with the location of what is wrong, and what would fit; ``name`` is what it calls the text.
    """
    return filter_at(Source(text, name), 0, event, cpus=cpus)


def filter_at(source: Source, start: int, event: EventFormat, *, cpus: int = 0) -> Filter:
    """Read the filter that is the rest of a text, such as after a trigger's ``if``. :raises ScriptError:"""
    parser = _Parser(source, start, event, cpus)
    return Filter(parser.whole())


def _comparisons(tree: Tree) -> Iterator[Comparison]:
    if isinstance(tree, Comparison):
        yield tree
    else:
        for part in tree.parts if isinstance(tree, Joined) else (tree.part,):
            yield from _comparisons(part)


class _Parser:
    def __init__(self, source: Source, start: int, event: EventFormat, cpus: int) -> None:
        self._source, self._text, self._at, self._event, self._cpus = source, source.text, start, event, cpus
        self._depth = 0

    def whole(self) -> Tree:
        if len(self._text.encode(errors="replace")) - self._at > _MOST_BYTES:
            raise self._error(f"longer than the kernel reads ({_MOST_BYTES} bytes)", self._at)
        if "\0" in self._text:
            raise self._error("NUL in a filter", self._text.index("\0"))
        if self._text[self._at :].strip() in ("", "0"):
            raise self._error("an empty filter", self._at, remedy=self._example())
        tree = self._either()
        if self._mark(")"):
            raise self._error("')' without '('", self._at - 1)
        if self._rest():
            raise self._error("expected && or || here", self._at)
        return tree

    def _either(self) -> Tree:
        parts = [self._all()]
        while self._mark("||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Joined("||", tuple(parts))

    def _all(self) -> Tree:
        parts = [self._one()]
        while self._mark("&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Joined("&&", tuple(parts))

    def _one(self) -> Tree:
        negated = False
        while self._mark("!"):
            negated = not negated
        begin = self._at
        if self._mark("("):
            self._depth += 1
            if self._depth > _MOST_NESTED:
                raise self._error(f"more than {_MOST_NESTED} parentheses in each other", begin)
            tree = self._either()
            if not self._mark(")"):
                what = "expected && or || or ')' here" if self._rest() else "'(' without ')'"
                raise self._error(what, self._at if self._rest() else begin)
            self._depth -= 1
        else:
            tree = self._comparison()
        return Negated(tree) if negated else tree

    def _comparison(self) -> Comparison:
        found = _FIELD.match(self._text, self._at)
        if not found:
            begin = self._skip_blanks()
            raise self._error("expected a field's name here", begin, remedy=self._example())
        span = Span(found.start("name"), found.end("name"))
        field = find_field(self._event, found["name"])
        if field is None:
            raise unknown_field(self._event, found["name"], self._source, span)
        form = (found["modifier"] or "")[1:]
        if form not in ("", "ustring", "function"):
            what = f"{found['modifier']} is not for filters"
            raise self._error(what, found.start("modifier"), found.end(), "filters have .ustring and .function")
        self._at = found.end()
        begin = self._skip_blanks()
        operator = next((word for word in sorted(_OPERATORS, key=len, reverse=True) if self._mark(word)), "")
        if not operator:
            rest = self._text[begin : begin + 1]
            fix = "equality is ==" if rest == "=" else f"operators: {' '.join(_OPERATORS)}"
            raise self._error("expected an operator here", begin, remedy=fix)
        where = Span(begin, self._at)
        value = self._value(field, form, operator, where, span)
        return Comparison(field, operator, value, form)

    def _value(
        self, field: Field, form: str, operator: str, where: Span, name: Span
    ) -> int | str | tuple[tuple[int, int], ...]:
        kind, begin = field_kind(field), self._skip_blanks()
        is_text = kind in ("text", "pointer to text")
        if form == "ustring" and kind != "pointer to text":
            raise ScriptError(f".ustring is for fields of type char *, not {declared(field)}", self._source, name)
        if form == "function":
            return self._function(field, operator, where, name)
        if self._text.startswith("CPUS{", begin):
            return self._cpu_list(field, operator, where, name)
        if self._text[begin : begin + 1] in ("'", '"'):
            if not is_text:
                what = f"{declared(field)} is not text: compare it with a number"
                raise self._error(what, begin, self._end_of_quoted(begin))
            if operator not in ("==", "!=", "~"):
                what = f"text is compared by ==, != or ~, not by {operator}"
                raise ScriptError(what, self._source, where)
            return self._quoted(begin)
        word = _WORD.match(self._text, begin)
        end = word.end() if word else begin + 1
        if is_text:
            quoted = f'text stands in quotes: {field.name} {operator} "{word[0]}"' if word else ""
            raise self._error(f"{declared(field)} is compared with text in quotes", begin, end, quoted)
        if kind in ("array", "cpu mask"):
            fix = "CPUS{0-3} is a CPU mask" if kind == "cpu mask" else ""
            raise ScriptError(f"{declared(field)} cannot be compared with a number", self._source, name, remedy=fix)
        if operator == "~":
            raise ScriptError(f"~ is for text; {declared(field)} is a number", self._source, where)
        return self._number(field, word, begin, end)

    def _number(self, field: Field, word: re.Match[str] | None, begin: int, end: int) -> int:
        digits = word[0].removeprefix("-") if word else ""
        if word is None or not _NUMBER.fullmatch(digits) or len(word[0]) > _MOST_DIGITS:
            what = "not a number" if word else f"expected a value of {declared(field)} here"
            raise self._error(what, begin, end, "decimal, 0x hexadecimal or 0 octal")
        is_octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        value = int(digits, 8 if is_octal else 0) * (-1 if word[0][0] == "-" else 1)
        bits = 8 * field.size
        low = -1 << bits - 1 if field.signed else 0
        high = (1 << 63 if field.signed and bits == 64 else 1 << bits) - 1  # flags in an int may use its top bit
        if not low <= value <= high:
            raise self._error(f"{value} does not fit {declared(field)} ({low} to {high})", begin, end)
        self._at = end
        return value

    def _quoted(self, begin: int) -> str:
        end = self._end_of_quoted(begin)
        value = self._text[begin + 1 : end - 1]
        if len(value.encode(errors="replace")) > _MOST_TEXT:
            raise self._error(f"text of more than {_MOST_TEXT} bytes", begin, end)
        self._at = end
        return value

    def _end_of_quoted(self, begin: int) -> int:
        end = self._text.find(self._text[begin], begin + 1)
        if end < 0:
            raise self._error(f"no closing {self._text[begin]}", begin)
        return end + 1

    def _function(self, field: Field, operator: str, where: Span, name: Span) -> str:
        if field.size != 8 or field_kind(field) != "number":
            raise ScriptError(f".function is for fields of 8 bytes, not {declared(field)}", self._source, name)
        if operator not in ("==", "!="):
            raise ScriptError("a function is compared by == or !=", self._source, where)
        found = re.compile(r"[\w.$]+", re.ASCII).match(self._text, self._at)
        if not found:
            raise self._error("expected a kernel function's name or an address in it", self._at)
        if found[0][0].isdigit() and not _NUMBER.fullmatch(found[0]):
            raise self._error("not an address", found.start(), found.end())
        self._at = found.end()
        return found[0]

    def _cpu_list(self, field: Field, operator: str, where: Span, name: Span) -> tuple[tuple[int, int], ...]:
        if field_kind(field) not in ("number", "cpu", "cpu mask"):
            raise ScriptError(f"{declared(field)} is neither a CPU nor a CPU mask", self._source, name)
        if operator not in ("==", "!=", "&"):
            raise ScriptError("CPUS{} is compared by ==, != or &", self._source, where)
        found = _CPUS.match(self._text, self._at)
        if not found:
            raise self._error("no closing }", self._at, self._at + 5)
        ranges = []
        for word in found[1].split(","):
            each = _CPU_RANGE.fullmatch(word)
            first, last = (int(each[1]), int(each[2] or each[1])) if each else (1, 0)
            if first > last or (self._cpus and last >= self._cpus):
                here = f" (there are {self._cpus} CPUs)" if self._cpus and first <= last else ""
                what = f"{word.strip()!r} is not a CPU or a range such as 0-3{here}"
                raise self._error(what, found.start(), found.end())
            ranges.append((first, last))
        self._at = found.end()
        return tuple(ranges)

    def _mark(self, mark: str) -> bool:
        """Go past a mark, if it comes next."""
        at = self._skip_blanks()
        if not self._text.startswith(mark, at):
            return False
        if mark == "!" and self._text[at + 1 : at + 2] in ("=", "~"):
            return False
        self._at = at + len(mark)
        return True

    def _skip_blanks(self) -> int:
        while self._at < len(self._text) and self._text[self._at] in " \t\n\v\f\r":
            self._at += 1
        return self._at

    def _rest(self) -> str:
        return self._text[self._skip_blanks() :]

    def _example(self) -> str:
        field = next((each for each in self._event.fields if field_kind(each) == "number"), None)
        return f"such as '{field.name if field else 'common_pid'} > 100'"

    def _error(self, what: str, begin: int, end: int | None = None, remedy: str = "") -> ScriptError:
        return ScriptError(what, self._source, Span(begin, begin + 1 if end is None else end), remedy=remedy)
