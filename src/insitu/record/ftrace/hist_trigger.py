"""The ``hist`` trigger: keys, values, variables and their expressions, sorting, and what it does at matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

from msgspec import Struct

from insitu.errors import InsituError, nearest
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.event_fields import event_at, find_field, unknown_field
from insitu.record.ftrace.hist_fields import MOST_KEYS, MOST_VALUES, HistField, hist_field

__all__ = ["HistTrigger", "hist_trigger"]

_MOST_SORT_KEYS: Final = 2  # TRACING_MAP_SORT_KEYS_MAX
_MOST_VARIABLES: Final = 16  # TRACING_MAP_VARS_MAX
_SIZES: Final = range((1 << 6) + 1, (1 << 17) + 1)  # TRACING_MAP_BITS_MIN, _MAX; the next power of two is taken
_NAMES: Final = {"key": "keys", "keys": "keys", "val": "vals", "vals": "vals", "values": "vals"}
_FLAGS: Final = {"pause": "pause", "continue": "continue", "cont": "continue", "clear": "clear"}
_WORDS: Final = ("keys=", "vals=", "values=", "sort=", "size=", "name=", "clock=", "nohitcount", *_FLAGS)
_ACTION: Final = re.compile(r"(?P<handler>\w+)\((?P<of>[^()]*)\)\.(?P<action>\w+)\((?P<parameters>[^()]*)\)")
_HANDLERS: Final = {
    "onmatch": ("trace",),
    "onmax": ("save", "snapshot", "trace"),
    "onchange": ("save", "snapshot", "trace"),
}
_OPERAND: Final = re.compile(r"(?P<variable>\$\w+)|(?P<number>\d{1,19}(?![\w.]))|\w+(?:\.\w+(?:=\d+)?)?")


class HistTrigger(Struct, frozen=True):
    """A hist trigger that suits its event, without its filter."""

    text: str
    keys: tuple[HistField, ...]
    variables: tuple[str, ...]
    actions: tuple[str, ...]


def hist_trigger(
    source: Source,
    span: Span,
    event: EventFormat,
    events: Callable[[str, str], EventFormat],
    variables: Collection[str],
) -> HistTrigger:
    """Read the trigger at ``span``. ``variables`` are those of other hist triggers. :raises ScriptError:"""
    return _Parser(source, span, event, events, variables).whole()


class _Parser:
    def __init__(
        self,
        source: Source,
        span: Span,
        event: EventFormat,
        events: Callable[[str, str], EventFormat],
        variables: Collection[str],
    ) -> None:
        self._source, self._span, self._event, self._events = source, span, event, events
        self._foreign = variables
        self._keys: list[HistField] = []
        self._values: list[HistField] = []
        self._variables: list[str] = []
        self._actions: list[str] = []
        self._parts: list[str] = []
        self._counts_hits = True

    def whole(self) -> HistTrigger:
        parts = list(self._split(self._span, ":"))
        later = []  # what names keys, values and variables comes after all of them
        for part in parts[1:]:
            text = self._text(part)
            if text.startswith("sort=") or re.match(r"\w+\(", text):
                later.append(part)
            else:
                self._part(part, text)
        if not self._keys:
            raise self._error("a hist trigger needs keys", self._span, "such as hist:keys=common_pid")
        for part in later:
            text = self._text(part)
            self._sort(part) if text.startswith("sort=") else self._action(part)
        text = ":".join(["hist", *self._parts])
        return HistTrigger(text, tuple(self._keys), tuple(self._variables), tuple(self._actions))

    def _part(self, part: Span, text: str) -> None:
        name, is_set, value = text.partition("=")
        values = Span(part.start + len(name) + 1, part.end)
        if name in _NAMES and is_set:
            self._fields(_NAMES[name], values)
        elif name == "size" and is_set:
            if not value.isdecimal() or len(value) > 6 or int(value) not in _SIZES:
                raise self._error(f"a size is {_SIZES[0]} to {_SIZES[-1]}", values)
            self._parts.append(f"size={int(value)}")
        elif name in ("name", "clock") and is_set:
            if not re.fullmatch(r"[\w-]+", value, re.ASCII):
                raise self._error(f"{value!r} cannot be a {name}", values)
            self._parts.append(text)
        elif text in _FLAGS or text == "nohitcount":
            self._counts_hits &= text != "nohitcount"
            self._parts.append(_FLAGS.get(text, text))
        elif is_set:
            for each in self._split(part, ","):
                self._assignment(each)
        else:
            hint = nearest(text, _WORDS)
            raise self._error(f"unknown part {text!r} of a hist trigger{hint}", part, f"parts: {', '.join(_WORDS)}")

    def _fields(self, kind: str, values: Span) -> None:
        found = self._keys if kind == "keys" else self._values
        if found:
            raise self._error(f"{kind} are given twice", values)
        shown = []
        for each in self._split(values, ","):
            if kind == "vals" and self._text(each).startswith("$"):
                shown.append(self._variable(each))
                found.append(HistField(self._text(each), None))
                continue
            field = hist_field(self._source, each, self._event, "key" if kind == "keys" else "value")
            found.append(field)
            shown.append(field.text)
        most = MOST_KEYS if kind == "keys" else MOST_VALUES
        if sum(each.name != "hitcount" for each in found) > most:
            raise self._error(f"at most {most} {kind}", values)
        self._parts.append(f"{kind}={','.join(shown)}")

    def _assignment(self, part: Span) -> None:
        name, is_set, _ = self._text(part).partition("=")
        if not is_set or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise self._error("expected NAME=EXPRESSION", part, "such as ts0=common_timestamp.usecs")
        if name in self._variables:
            raise self._error(f"the variable {name} is set twice", part)
        expression = _Expression(self, Span(part.start + len(name) + 1, part.end))
        text = expression.whole()
        self._variables.append(name)
        if len(self._variables) > _MOST_VARIABLES:
            raise self._error(f"more than {_MOST_VARIABLES} variables", part)
        self._parts.append(f"{name}={text}")

    def _sort(self, part: Span) -> None:
        known = {field.name for field in (*self._keys, *self._values)} | (
            {"hitcount"} if self._counts_hits else set()
        )
        shown = []
        words = list(self._split(Span(part.start + len("sort="), part.end), ","))
        for each in words:
            name, dot, order = self._text(each).partition(".")
            name = {"stacktrace": "common_stacktrace", "cpu": "common_cpu"}.get(name, name)
            if name not in known:
                hint = nearest(name, known)
                fitting = f"it sorts by its keys and values: {', '.join(sorted(known))}"
                raise self._error(f"{name!r} is not in the histogram{hint}", each, fitting)
            if dot and order not in ("ascending", "descending"):
                raise self._error(f"unknown order .{order}", each, ".ascending or .descending")
            shown.append(self._text(each))
        if len(words) > _MOST_SORT_KEYS:
            raise self._error(f"at most {_MOST_SORT_KEYS} fields to sort by", part)
        self._parts.append(f"sort={','.join(shown)}")

    def _action(self, part: Span) -> None:
        text = self._text(part)
        found = _ACTION.fullmatch(text)
        if not found:
            raise self._error("expected HANDLER(...).ACTION(...)", part, "such as onmax($latency).save(next_comm)")
        handler, action = found["handler"], found["action"]
        if handler not in _HANDLERS:
            hint = nearest(handler, _HANDLERS)
            raise self._error(f"unknown handler {handler!r}{hint}", part, f"handlers: {', '.join(_HANDLERS)}")
        of = Span(part.start + found.start("of"), part.start + found.end("of"))
        matched = None
        if handler == "onmatch":
            matched = self._other_event(of)
        else:
            self._variable(of)
        inside = Span(part.start + found.start("parameters"), part.start + found.end("parameters"))
        parameters = list(self._split(inside, ","))
        where = Span(part.start + found.start("action"), part.start + found.end("action"))
        if action == "trace" and parameters:
            self._trace(self._text(parameters[0]), parameters[0], parameters[1:], matched)
        elif action == "save" and "save" in _HANDLERS[handler]:
            for each in parameters:
                self._field(each, self._event)
        elif action == "snapshot" and "snapshot" in _HANDLERS[handler]:
            if any(map(self._text, parameters)):
                raise self._error("snapshot() has no parameters", part)
        elif action in ("save", "snapshot", "trace"):
            fitting = ", ".join(f"{each}()" for each in _HANDLERS[handler])
            raise self._error(f"{action}() does not fit {handler}", where, f"actions of {handler}: {fitting}")
        else:
            self._trace(action, where, parameters, matched)
        self._actions.append(f"{handler}.{action}")
        shown = ",".join(map(self._text, parameters))
        self._parts.append(f"{handler}({self._text(of).replace(':', '.')}).{action}({shown})")

    def _trace(self, name: str, where: Span, parameters: list[Span], matched: EventFormat | None) -> None:
        """``name`` is a synthetic event, which takes a parameter for each of its fields."""
        try:
            synthetic = self._events("synthetic", name)
        except InsituError:
            fix = "actions are trace(), save(), snapshot(), or a synthetic event's name"
            raise self._error(f"there is no synthetic event {name!r}", where, fix) from None
        for each in parameters:
            if self._text(each).startswith("$"):
                self._variable(each)
            elif matched is None or find_field(matched, self._text(each)) is None:
                self._field(each, self._event)
        if len(parameters) != len(synthetic.fields):
            takes = ", ".join(field.name for field in synthetic.fields)
            raise self._error(f"{name} takes {len(synthetic.fields)} parameters, not {len(parameters)}", where, takes)

    def _other_event(self, span: Span) -> EventFormat:
        category, dot, name = self._text(span).replace(":", ".").partition(".")
        if not dot:
            raise self._error(f"{self._text(span)!r} is not CATEGORY.EVENT", span)
        return event_at(self._events, category, name, self._source, span)

    def _field(self, span: Span, event: EventFormat) -> None:
        if find_field(event, self._text(span)) is None and self._text(span) not in ("common_timestamp", "common_cpu"):
            raise unknown_field(event, self._text(span), self._source, span)

    def _variable(self, span: Span) -> str:
        name = self._text(span)
        known = (*self._variables, *self._foreign)
        if not name.startswith("$"):
            raise self._error("expected a variable, such as $latency", span)
        if name[1:] not in known:
            hint = nearest(name[1:], known)
            raise self._error(f"no trigger sets the variable {name}{hint}", span, "set it by NAME=EXPRESSION")
        return name

    def _text(self, span: Span) -> str:
        return self._source.text[span.start : span.end]

    def _split(self, span: Span, separator: str) -> Iterator[Span]:
        """The parts of a span, blanks around them left out."""
        start = span.start
        for part in self._text(span).split(separator):
            lead = len(part) - len(part.lstrip())
            yield Span(start + lead, start + max(lead, len(part.rstrip())))
            start += len(part) + 1

    def _error(self, what: str, span: Span, remedy: str = "") -> ScriptError:
        shown = span if span.end > span.start else Span(span.start, span.start + 1)
        return ScriptError(what, self._source, shown, remedy=remedy)

    # What expressions use

    text = _text
    error = _error
    variable = _variable

    def operand(self, span: Span) -> str:
        """A field as a variable has it."""
        return hist_field(self._source, span, self._event, "variable").text


class _Expression:
    """Operands with + - * / between them, or ``-(...)`` of that: parse_expr() has no other parentheses."""

    def __init__(self, parser: _Parser, span: Span) -> None:
        self._parser, self._text, self._at, self._start = parser, parser.text(span), 0, span.start

    def whole(self) -> str:
        made = self._sign("-") and self._sign("(") and "-("
        if self._at and not made:
            raise self._error("expected '(' here: only -(EXPRESSION) is negated")
        made += self._operand()
        while sign := self._sign("+-*/"):
            made += sign + self._operand()
        if made.startswith("-("):
            if not self._sign(")"):
                raise self._error("expected ')' here")
            made += ")"
        if self._at < len(self._text):
            raise self._error("expected + - * / or the end here", "hist triggers have no parentheses but -(...)")
        return made

    def _operand(self) -> str:
        found = _OPERAND.match(self._text, self._at)
        if not found:
            raise self._error("expected a field, $VARIABLE or number here")
        span = Span(self._start + found.start(), self._start + found.end())
        is_divided = self._text[: self._at].rstrip().endswith("/")
        self._at = found.end()
        if found["variable"]:
            return self._parser.variable(span)
        if found["number"] and not int(found["number"]) and is_divided:
            raise self._parser.error("division by zero", span)
        return found["number"] or self._parser.operand(span)

    def _sign(self, signs: str) -> str:
        """Go past one of these, if it comes next, and blanks around it."""
        rest = self._text[self._at :]
        sign = rest.lstrip()[:1]
        if not sign or sign not in signs:
            return ""
        self._at = len(self._text) - len(rest.lstrip()[1:].lstrip())
        return sign

    def _error(self, what: str, remedy: str = "") -> ScriptError:
        at = self._start + self._at
        return self._parser.error(what, Span(at, at + 1), remedy)
