"""Attributes of structs and their members, as GCC has them: packed and aligned; those without effect are skipped."""

from __future__ import annotations

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.bpftrace.expression_parser import ExpressionParser
from insitu.probe.bpftrace.lexer import Token
from insitu.probe.source import ScriptError

__all__ = ["AttributeParser"]

_KEYWORD = "__attribute__"
_LARGEST_ALIGNMENT = 16  # of any type of the processor's: what aligned means without a number
_MAX_ALIGNMENT = 4096
_WITHOUT_EFFECT = ("unused", "deprecated", "may_alias", "preserve_access_index", "btf_type_tag", "btf_decl_tag")


class AttributeParser(ExpressionParser):
    """Reads what stands in front of, inside and after definitions."""

    def attributes(self, into: ast.Structure | ast.StructureField) -> None:
        """Take all attributes at the current token over; also those that a #define stands for."""
        while self.is_attribute(self.token):
            if self.token.text == _KEYWORD:
                self._attribute(into)
            else:
                self._of_define(into)

    def is_attribute(self, token: Token) -> bool:
        """Whether a token begins an attribute."""
        return token.text == _KEYWORD or self._defines.get(token.text, "").startswith(_KEYWORD)

    def _of_define(self, into: ast.Structure | ast.StructureField) -> None:
        token = self._advance()
        inner = AttributeParser(self.source, self._defines[token.text], {}, self.parameters)
        try:
            inner.attributes(into)
            if inner.token.kind != "end":
                raise inner.unexpected("the end of the attributes")
        except ScriptError as error:
            raise self.error(f"in #define {token.text}: {error.plain}", token.span) from None

    def _attribute(self, into: ast.Structure | ast.StructureField) -> None:
        self._advance()
        self._expect("(")
        self._expect("(")
        while self.token.text != ")":
            span = self.token.span
            name = self._name("an attribute").strip("_")
            values = self._list("(", ")", self.expression) if self.token.text == "(" else []
            if name == "packed" and not values:
                into.packed = True
            elif name == "aligned" and len(values) < 2:
                into.aligned = max(into.aligned, self._alignment(values))
            elif name not in _WITHOUT_EFFECT:
                hint = nearest(name, ("packed", "aligned"))
                raise self.error(f"attribute {name!r} is not supported{hint}", span)
            if not self._accept(","):
                break
        self._expect(")")
        self._expect(")")

    def _alignment(self, values: list[ast.Expression]) -> int:
        if not values:
            return _LARGEST_ALIGNMENT
        alignment = self.constant(values[0])
        if not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self.error(f"an alignment is a power of two up to {_MAX_ALIGNMENT}", values[0].span)
        return alignment
