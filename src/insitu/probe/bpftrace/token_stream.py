"""A script's tokens, the current one, and syntax errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from insitu.probe.bpftrace.lexer import Lexer, Token
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["MAX_DEPTH", "TokenStream"]

# Nesting of blocks, parentheses and operators. Passes recurse over the tree, so it bounds their recursion too.
MAX_DEPTH = 250


class TokenStream:
    """``token`` is the current one; the methods that are not public are for the parsers, which are subclasses."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self._depth = 0
        self._lexer = Lexer(source, text)
        self.token = self._lexer.next()

    def error(self, message: str, span: Span, *, remedy: str = "") -> ScriptError:
        """A ScriptError at a span of this script."""
        return ScriptError(message, self.source, span, remedy=remedy)

    def unexpected(self, expected: str) -> ScriptError:
        """The error for the current token where another was expected."""
        found = f"{self.token.text!r}" if self.token.kind != "end" else "end of script"
        return self.error(f"unexpected {found}, expected {expected}", self.token.span)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Count one level of nesting.

        :raises ScriptError: at more than MAX_DEPTH levels.
        """
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} levels deep", self.token.span)
        try:
            yield
        finally:
            self._depth -= 1

    def _advance(self) -> Token:
        token = self.token
        self.token = self._lexer.next()
        return token

    def _seek(self, position: int) -> None:
        self._lexer.position = position
        self.token = self._lexer.next()

    def _peek(self, count: int = 1) -> Token:
        """The ``count``-th token after the current one."""
        position = self._lexer.position
        token = self.token
        for _ in range(count):
            token = self._lexer.next()
        self._lexer.position = position
        return token

    def _accept(self, text: str) -> bool:
        if self.token.text == text and self.token.kind in ("operator", "name"):
            self._advance()
            return True
        return False

    def _expect(self, text: str, what: str = "") -> Token:
        if self.token.text != text or self.token.kind not in ("operator", "name"):
            raise self.unexpected(what or repr(text))
        return self._advance()

    def _name(self, what: str) -> str:
        if self.token.kind != "name":
            raise self.unexpected(what)
        return self._advance().text

    def end_of_statement(self) -> None:
        """Take the semicolon; before a closing brace it may be left out."""
        if not self._accept(";") and self.token.text != "}":
            raise self.unexpected("';' or '}'")
