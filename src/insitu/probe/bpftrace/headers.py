"""``#include``: finds C headers, and reads the plain declarations in them.

Declarations of functions and variables are passed over; a type's that cannot be read is left out, with
a warning that names its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from insitu.probe import ast
from insitu.probe.bpftrace.lexer import Lexer, Token
from insitu.probe.bpftrace.script_files import directories, read_named
from insitu.probe.bpftrace.token_stream import MAX_DEPTH
from insitu.probe.bpftrace.type_parser import DEFINITIONS, DefinitionParser
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["HeaderParser", "Headers"]

_MAX_FILES = 1024
_MAX_TOKENS = 1_000_000  # of one header, its macros expanded
_IGNORED = ("__extension__", "extern", "inline", "__inline")


class Headers:
    """The headers that a script and its imports include, each read once."""

    def __init__(self, source: Source, folders: Sequence[str]) -> None:
        self._source = source
        self._folders = [Path(folder) for folder in folders]
        self._read: dict[Path, tuple[int, str]] = {}

    def find(self, name: str, span: Span, *, quoted: bool) -> tuple[int, str] | None:
        """The text of the header that is meant, and where it begins in the source; None when there is none.

        :raises ScriptError: for one that may not or cannot be read.
        """
        beside = directories(self._source, span) if quoted else []
        for folder in [*beside, *self._folders]:
            path = folder / name
            try:
                if not path.is_file():
                    continue
                whole = path.resolve()
                if whole not in self._read:
                    if len(self._read) >= _MAX_FILES:
                        raise ValueError(f"more than {_MAX_FILES} headers are included")
                    text = read_named(path)
                    self._read[whole] = self._source.add(text, str(path)), text
                return self._read[whole]
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise ScriptError(f"cannot include {name!r}: {why}", self._source, span) from None
        return None


class HeaderParser(DefinitionParser):
    """Reads one header, whose text is preprocessed; #defines are replaced wherever they occur, as in C."""

    def __init__(self, source: Source, text: str, defines: dict[str, str], enumerators: dict[str, int]) -> None:
        super().__init__(source, text, {}, [])
        self.enumerators = enumerators
        self.warnings: list[str] = []
        self._lexer = _Tokens(_Expansion(source, text, defines).tokens)
        self.token = self._lexer.next()

    def declarations(self) -> list[ast.Structure]:
        """The types that the header declares."""
        found: list[ast.Structure] = []
        while self.token.kind != "end":
            start, position = self.token.span, self._lexer.position - 1
            try:
                if self.token.text in DEFINITIONS and self.token.kind == "name" and self._declares_type():
                    found += self.definition()
                    if not self.ended:
                        self._skip()  # variables of the type
                else:
                    self._skip()
            except ScriptError as error:
                self.warnings.append(f"{self.source.where(start)}: {error.plain}: this declaration is left out")
                self._seek(position)
                self._skip()
        return found + self.extra_structures

    def _declares_type(self) -> bool:
        return self.token.text == "typedef" or self._has_body() or self._peek(2).text == ";"

    def _skip(self) -> None:
        """Pass over a declaration, or what is left of one: up to its semicolon, or the end of a function's body."""
        depth, is_value = 0, False
        while self.token.kind != "end":
            text = self._advance().text
            if text in ("(", "[", "{"):
                depth += 1
            elif text in (")", "]", "}"):
                depth -= 1
                if depth <= 0 and text == "}" and not is_value:
                    self._accept(";")
                    return
            elif not depth and text == ";":
                return
            elif not depth and text == "=":
                is_value = True


class _Tokens(Lexer):
    """Tokens that are known already; ``position`` is the number of the next one."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self.position = 0

    def next(self) -> Token:
        token = self._tokens[min(self.position, len(self._tokens) - 1)]
        self.position += 1
        return token


class _Expansion:
    """The tokens of a text with #defined names replaced; those of a replacement are where the name is."""

    def __init__(self, source: Source, text: str, defines: Mapping[str, str]) -> None:
        self._source, self._defines = source, defines
        self._work = 0
        self.tokens: list[Token] = []
        for token in _lexed(source, text):
            self._take(token, ())

    def _take(self, token: Token, opened: tuple[str, ...]) -> None:
        self._work += 1
        if self._work > _MAX_TOKENS:
            raise ScriptError("this header is too large", self._source, token.span)
        name = token.text
        if token.kind == "name" and name in _IGNORED:
            return
        if token.kind != "name" or name not in self._defines or name in opened or len(opened) > MAX_DEPTH:
            self.tokens.append(token)
            return
        replacement = self._defines[name]
        for inner in _lexed(Source(replacement), replacement):
            if inner.kind != "end":
                self._take(Token(inner.kind, inner.text, token.span), (*opened, name))


def _lexed(source: Source, text: str) -> Iterator[Token]:
    """The tokens of a text; a character that this language lacks is an operator of C, of which types have none."""
    lexer = Lexer(source, text)
    while True:
        try:
            token = lexer.next()
        except ScriptError:
            at = lexer.position
            lexer.position = at + 1
            token = Token("operator", text[at], Span(at, at + 1))
        yield token
        if token.kind == "end":
            return
