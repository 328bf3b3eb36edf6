"""Expressions: precedence climbing over C's operators, casts, tuples, types as written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from insitu.probe import ast
from insitu.probe.bpftrace.block_parser import BlockParser
from insitu.probe.bpftrace.lexer import Token, unescape
from insitu.probe.bpftrace.literals import C_WORDS, INTEGER_TYPES, canonical, integer_value
from insitu.probe.bpftrace.token_stream import MAX_DEPTH
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["ExpressionParser"]

_Element = TypeVar("_Element")

_PRECEDENCE = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    ">": 7,
    "<=": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}
_MAX_POINTERS = 16  # stars of a type
_MAX_EXPANDED = 100_000  # names, numbers and texts that #defines add to a script
_QUALIFIERS = ("const", "volatile", "restrict", "__restrict")


class ExpressionParser(BlockParser):
    """Everything that parses an expression."""

    def __init__(self, source: Source, text: str, defines: dict[str, str], parameters: list[str]) -> None:
        super().__init__(source, text)
        self.parameters = parameters
        self.type_names: set[str] = set()
        self.macro_names: set[str] = set()
        self.type_parameters: set[str] = set()  # those of the current macro that may be types
        self.extra_structures: list[ast.Structure] = []
        self.enumerators: dict[str, int] = {}
        self._defines = defines
        self._expanding: list[str] = []
        self._expanded = [0]  # how many names, numbers and texts #defines have added; inner parsers share it

    # Expressions

    def expression(self, *, ranges: bool = False) -> ast.Expression:
        """A whole expression; with ``ranges``, also ``a..b``."""
        with self.nested():
            condition = self._binary(0)
            if ranges and self.token.text == "..":
                self._advance()
                end = self._binary(0)
                return ast.Range(condition.span.to(end.span), condition, end)
            if self.token.text != "?":
                return condition
            self._advance()
            true = None
            if self.token.text != ":":
                with self.outside_predicate():
                    true = self.expression()
            self._expect(":")
            false = self.expression()
            return ast.Ternary(condition.span.to(false.span), condition, true, false)

    def _binary(self, minimum: int) -> ast.Expression:
        left = self._unary()
        chain = 0
        while self.token.kind == "operator":
            operator = self.token.text
            precedence = _PRECEDENCE.get(operator, -1)
            if precedence <= minimum or (operator == "/" and self.in_predicate and self._ends_predicate()):
                return left
            chain += 1
            if chain > MAX_DEPTH:
                raise self.error(f"more than {MAX_DEPTH} operators in a row", self.token.span)
            self._advance()
            with self.nested():
                right = self._binary(precedence)
            left = ast.Binary(left.span.to(right.span), operator, left, right)
        return left

    def _ends_predicate(self) -> bool:
        return self._peek().text == "{"

    def _unary(self) -> ast.Expression:
        token = self.token
        if token.kind == "operator":
            if token.text in ("-", "!", "~", "*", "&", "+"):
                self._advance()
                with self.nested():
                    operand = self._unary()
                if token.text == "+":
                    return operand
                if token.text == "-" and isinstance(operand, ast.Integer) and not operand.unsigned:
                    return ast.Integer(token.span.to(operand.span), -operand.value)
                return ast.Unary(token.span.to(operand.span), token.text, operand)
            if token.text in ("++", "--"):
                self._advance()
                with self.nested():
                    target = self._unary()
                return self._step(token, target, postfix=False)
            if token.text == "(" and self._is_cast():
                self._advance()
                target_type = self.type_name()
                self._expect(")")
                with self.nested():
                    operand = self._unary()
                return ast.Cast(token.span.to(operand.span), target_type, operand)
        if token.text == "comptime" and token.kind == "name":
            self._advance()
            with self.nested():
                operand = self._unary()
            return ast.Unary(token.span.to(operand.span), "comptime", operand)
        return self._postfix(self._primary())

    def _step(self, token: Token, target: ast.Expression, *, postfix: bool) -> ast.Step:
        if not isinstance(target, ast.Variable | ast.MapAccess):
            raise self.error(f"{token.text} needs a $variable or a @map", target.span)
        return ast.Step(target.span.to(token.span), target, 1 if token.text == "++" else -1, postfix)

    def _is_cast(self) -> bool:
        first = self._peek()
        if first.kind != "name":
            return False
        if first.text in ("struct", "union", "enum", "typeof") or first.text in C_WORDS:
            return True
        second = self._peek(2)
        if first.text in self.type_parameters and second.text == ")":
            return self._begins_operand(self._peek(3))
        if second.text == "*":
            count = 3
            while (following := self._peek(count)).text == "*" and count < 3 + _MAX_POINTERS:
                count += 1
            return following.text == ")"
        known = first.text in INTEGER_TYPES or first.text in self.type_names or first.text in ("string", "inet")
        return known and second.text in (")", "[")

    @staticmethod
    def _begins_operand(token: Token) -> bool:
        """Whether what follows ``(name)`` can only be the operand of a cast."""
        return token.text in ("(", "!", "~") if token.kind == "operator" else token.kind != "end"

    def _postfix(self, value: ast.Expression) -> ast.Expression:
        links = 0
        while self.token.kind == "operator":
            token = self.token
            links += 1
            if links > MAX_DEPTH:
                raise self.error(f"more than {MAX_DEPTH} accesses in a row", token.span)
            if token.text in (".", "->"):
                self._advance()
                if self.token.kind not in ("name", "integer"):
                    raise self.unexpected("a field's name")
                name = self._advance()
                value = ast.Member(value.span.to(name.span), value, name.text, token.text == "->")
            elif token.text == "[":
                self._advance()
                with self.outside_predicate():
                    index = self.expression()
                value = ast.Index(value.span.to(self._expect("]").span), value, index)
            elif token.text in ("++", "--") and isinstance(value, ast.Variable | ast.MapAccess):
                self._advance()
                value = self._step(token, value, postfix=True)
            else:
                break
        return value

    def _primary(self) -> ast.Expression:
        token = self.token
        if self._expanding:
            self._expanded[0] += 1
            if self._expanded[0] > _MAX_EXPANDED:
                raise self.error(
                    f"#defines add more than {_MAX_EXPANDED} names and numbers to the script", token.span
                )
        if token.kind == "integer":
            self._advance()
            value, unsigned = self.integer_value(token)
            return ast.Integer(token.span, value, unsigned)
        if token.kind == "string":
            self._advance()
            text = unescape(token.text)
            while self.token.kind == "string":
                text += unescape(self._advance().text)
            return ast.StringLiteral(token.span, text)
        if token.kind == "character":
            self._advance()
            return ast.Integer(token.span, unescape(token.text)[0])
        if token.kind == "positional":
            self._advance()
            index = 0 if token.text == "$#" else self._bounded(int(token.text[1:6]), token)
            return ast.Positional(token.span, index)
        if token.kind == "variable":
            self._advance()
            return ast.Variable(token.span, token.text)
        if token.kind == "map":
            self._advance()
            key = self._list("[", "]", self.expression) if self.token.text == "[" else None
            return ast.MapAccess(token.span, token.text, key)
        if token.text == "(" and token.kind == "operator":
            return self._tuple_or_parenthesis()
        if token.text == "{" and token.kind == "operator":
            return self.block_expression()
        if token.kind == "name":
            return self.if_expression() if token.text == "if" else self._named()
        raise self.unexpected("an expression")

    def _bounded(self, index: int, token: Token) -> int:
        if index < 1:
            raise self.error("positional parameters start at $1", token.span)
        return index

    def _named(self) -> ast.Expression:
        token = self._advance()
        name = token.text
        if name in self._defines:
            return self._expand_define(token)
        if name in ("sizeof", "offsetof") and self.token.text == "(":
            return self._type_of(token)
        if self.token.text == "(" and self.token.kind == "operator":
            arguments = self._list("(", ")", self._argument)
            return ast.Call(Span(token.span.start, self.token.span.start), name, arguments)
        return ast.Identifier(token.span, name)

    def _expand_define(self, token: Token) -> ast.Expression:
        """Parse the replacement of a #define where its name is used; all of its tree gets the name's span."""
        name = token.text
        if name in self._expanding:
            raise self.error(f"#define {name} refers to itself", token.span)
        inner = ExpressionParser(self.source, self._defines[name], self._defines, self.parameters)
        inner._expanding, inner._expanded = [*self._expanding, name], self._expanded
        inner._depth = self._depth
        if inner.token.kind == "end":
            raise self.error(f"#define {name} has no value", token.span)
        try:
            value = inner.expression()
        except ScriptError as error:
            known = error.plain.startswith("in #define ")  # which one
            raise self.error(error.plain if known else f"in #define {name}: {error.plain}", token.span) from None
        if not self._expanding:
            for node in ast.walk(value):
                node.span = token.span
        return value

    def _type_or_value(self, *, any_name: bool = False) -> ast.TypeName | ast.Expression:
        """The operand of sizeof() and the like; with ``any_name``, an ambiguous name is a type's."""
        if self.token.kind == "name" and (
            self.token.text in ("struct", "union", "enum", "typeof")
            or self.token.text in INTEGER_TYPES
            or self.token.text in C_WORDS
            or self.token.text in self.type_names
            or (self._peek().text in (",", "*") and any_name)
            or (self._peek().text == "*" and self._peek(2).text == ")")
        ):
            return self.type_name()
        return self.expression()

    def _type_of(self, token: Token) -> ast.Expression:
        self._expect("(")
        subject = self._type_or_value(any_name=token.text == "offsetof")
        path: list[str] = []
        if token.text == "offsetof":
            self._expect(",")
            path.append(self._name("a field's name"))
            while self._accept("."):
                path.append(self._name("a field's name"))
        return ast.TypeOf(token.span.to(self._expect(")").span), subject, tuple(path))

    def _argument(self) -> ast.Expression | ast.TypeName:
        """An argument of a call; types are those of macros and of functions such as typeinfo()."""
        word, following = self.token.text, self._peek()
        is_name = self.token.kind == "name"
        if is_name and (word in ("struct", "union", "enum") or (word == "typeof" and following.text == "(")):
            return self.type_name()
        if is_name and (word in INTEGER_TYPES or word in self.type_names) and following.text in (",", ")", "*", "["):
            return self.type_name()
        return self.expression()

    def _list(self, opening: str, closing: str, element: Callable[[], _Element]) -> list[_Element]:
        self._expect(opening)
        values: list[_Element] = []
        with self.outside_predicate():
            while self.token.text != closing or self.token.kind != "operator":
                values.append(element())
                if not self._accept(","):
                    break
        self._expect(closing, f"',' or {closing!r}")
        return values

    def _tuple_or_parenthesis(self) -> ast.Expression:
        start = self._advance().span
        in_predicate, self.in_predicate = self.in_predicate, False
        elements: list[ast.Expression] = []
        names: list[str] = []
        trailing = False
        while self.token.text != ")" or self.token.kind != "operator":
            if self.token.kind == "name" and self._peek().text == "=" and (names or not elements):
                names.append(self._advance().text)
                self._advance()
            elif names:
                raise self.unexpected("a name, as in (name=value, ...)")
            elements.append(self.expression())
            trailing = self._accept(",")
            if not trailing:
                break
        self.in_predicate = in_predicate
        end = self._expect(")", "',' or ')'").span
        if len(elements) == 1 and not trailing and not names:
            return elements[0]
        if len(set(names)) != len(names):
            raise self.error("duplicate name in this tuple", start.to(end))
        return ast.TupleLiteral(start.to(end), elements, names or None)

    def statement(self) -> ast.Statement:
        """Overridden where statements are parsed; a #define's replacement holds none."""
        raise self.unexpected("an expression")

    # Types and constants

    def type_name(self, *, pointers: bool = True) -> ast.TypeName:
        """A type as written, e.g. ``const unsigned long *``, ``struct sock *``, ``uint8[16]``."""
        start = self.token.span
        if self.token.text == "typeof" and self._peek().text == "(":
            return self._typeof(start)
        tag = ""
        words: list[str] = []
        while self.token.kind == "name":
            word = self.token.text
            if word in _QUALIFIERS:
                self._advance()
            elif word in ("struct", "union", "enum") and not words and not tag:
                tag = self._advance().text
            elif words and (words[-1] not in C_WORDS or word not in C_WORDS):
                break
            else:
                words.append(self._advance().text)
                if tag:
                    break
        if not words:
            raise self.unexpected("a type")
        name = canonical(words)
        count = self._stars() if pointers else 0
        array = self._array_suffix() if pointers else ()
        return ast.TypeName(start.to(self.token.span), name, tag, count, array)

    def _typeof(self, start: Span) -> ast.TypeName:
        self._advance()
        self._expect("(")
        subject = self._type_or_value()
        self._expect(")")
        pointers, array = self._stars(), self._array_suffix()
        if isinstance(subject, ast.TypeName):
            subject.pointers += pointers
            subject.array = array + subject.array
            return subject
        return ast.TypeName(start.to(self.token.span), "typeof", "", pointers, array, subject)

    def _stars(self) -> int:
        count = 0
        while self._accept("*"):
            count += 1
            if count > _MAX_POINTERS:
                raise self.error(f"more than {_MAX_POINTERS} * in a type", self.token.span)
            while self.token.text in _QUALIFIERS:
                self._advance()
        return count

    def _array_suffix(self) -> tuple[int, ...]:
        sizes: list[int] = []
        while self._accept("["):
            sizes.append(0 if self.token.text == "]" else self.constant(self.expression()))
            self._expect("]")
        return tuple(sizes)

    def constant(self, value: ast.Expression) -> int:
        """The value of an expression of numbers and enumerators.

        :raises ScriptError: when it is anything else.
        """
        if isinstance(value, ast.Integer):
            return value.value
        from insitu.probe.bpftrace.written_constants import value_of

        found = value_of(value, self.enumerators, self.parameters)
        if found is None:
            raise self.error("expected a constant number", value.span)
        return found

    def integer_value(self, token: Token) -> tuple[int, bool]:
        """Value and unsignedness of an integer token."""
        try:
            return integer_value(token.text)
        except ValueError as error:
            raise self.error(str(error), token.span) from None
