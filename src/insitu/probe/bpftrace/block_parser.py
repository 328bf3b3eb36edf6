"""Blocks and if/else with a value: that of the last expression in them, which no semicolon follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from insitu.probe import ast
from insitu.probe.bpftrace.token_stream import TokenStream
from insitu.probe.source import Source, Span

__all__ = ["BlockParser"]


class BlockParser(TokenStream):
    """What the parser of expressions is built on; what it leaves open is in the classes above it."""

    def __init__(self, source: Source, text: str) -> None:
        super().__init__(source, text)
        self.in_predicate = False

    def expression(self, *, ranges: bool = False) -> ast.Expression:
        """A whole expression; with ``ranges``, also ``a..b``."""
        raise NotImplementedError

    def statement(self) -> ast.Statement:
        """One statement, its semicolon included."""
        raise NotImplementedError

    @contextmanager
    def outside_predicate(self) -> Iterator[None]:
        """Inside of brackets a slash divides, even in a predicate."""
        in_predicate, self.in_predicate = self.in_predicate, False
        yield
        self.in_predicate = in_predicate

    def block_expression(self) -> ast.BlockExpression:
        """``{ statements; value }``, the braces included."""
        start = self._expect("{").span
        statements: list[ast.Statement] = []
        with self.nested(), self.outside_predicate():
            while self.token.text != "}":
                if self.token.kind == "end":
                    raise self.unexpected("'}'")
                if not self._accept(";"):
                    statements.append(self.statement())
        span = start.to(self._expect("}").span)
        return _block_with_value(span, statements) or ast.BlockExpression(span, statements, None)

    def if_expression(self) -> ast.Ternary:
        """``if condition { value } else { value }``; the current token is the ``if``."""
        start = self._advance().span
        with self.nested():
            condition = self.expression()
            true = self.block_expression()
            self._expect("else", "'else': an if used as a value needs both branches")
            false = self.if_expression() if self.token.text == "if" else self.block_expression()
        return ast.Ternary(start.to(false.span), condition, true, false)


def _block_with_value(span: Span, statements: list[ast.Statement]) -> ast.BlockExpression | None:
    """A block whose last statement is its value; None if that has none."""
    value = _value(statements[-1]) if statements else None
    return None if value is None else ast.BlockExpression(span, statements[:-1], value)


def _value(statement: ast.Statement) -> ast.Expression | None:
    """The value of a statement at the end of a block: of an expression without a semicolon, or of both branches."""
    if isinstance(statement, ast.ExpressionStatement):
        return statement.expression if statement.bare else None
    if isinstance(statement, ast.Block):
        return _block_with_value(statement.span, statement.statements)
    if isinstance(statement, ast.If) and statement.otherwise is not None:
        true, false = _value(statement.then), _value(statement.otherwise)
        if true is not None and false is not None:
            return ast.Ternary(statement.span, statement.condition, true, false)
    return None
