"""Tokens of the probe language."""

from __future__ import annotations

import re

from msgspec import Struct

from insitu.probe.source import ScriptError, Source, Span

__all__ = ["Lexer", "Token", "unescape"]


class Token(Struct, frozen=True):
    """``kind`` is integer, string, name, variable, map, positional, operator or end."""

    kind: str
    text: str
    span: Span


_PATTERN = re.compile(
    r"""
    (?P<skip>(?:[ \t\r\n\f\v]+|//[^\n]*|/\*.*?\*/)+)
  | (?P<integer>(?:0[xX][0-9a-fA-F_]+|[0-9][0-9_]*(?:[eE][0-9]+)?)(?:[uUlL]{0,3}|ns|us|ms|s|m|h|d)\b)
  | (?P<string>"(?:\\.|[^"\\])*")
  | (?P<character>'(?:\\.|[^'\\\n])')
  | (?P<positional>\$(?:[0-9]+|\#))
  | (?P<variable>\$[A-Za-z_]\w*)
  | (?P<map>@(?:[A-Za-z_]\w*)?)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<operator><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.|[-+*/%&|^~!<>=?:;,.(){}\[\]@\#])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": 10, "t": 9, "r": 13, "0": 0, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27, "\\": 92, '"': 34, "'": 39}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)|([^\\]+)", re.DOTALL)


class Lexer:
    """Reads tokens one after the other; ``position`` may be set back by a caller that looks ahead."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self.position = 0

    def next(self) -> Token:
        """The next token; of kind "end" at the end of the text, again and again.

        :raises ScriptError: for a character that begins no token, and an unterminated string or comment.
        """
        while True:
            start = self.position
            if start >= len(self.text):
                return Token("end", "", Span(start, start))
            match = _PATTERN.match(self.text, start)
            if match is None:
                raise self._unreadable(start)
            kind = match.lastgroup or ""
            if kind == "operator" and match.group() == "/" and self.text.startswith("/*", start):
                raise ScriptError("unterminated comment", self.source, Span(start, start + 2))
            self.position = match.end()
            if kind != "skip":
                return Token(kind, match.group(), Span(start, match.end()))

    def _unreadable(self, start: int) -> ScriptError:
        character = self.text[start]
        if character == '"':
            return ScriptError("unterminated string", self.source, Span(start, start + 1))
        return ScriptError(f"unexpected character {character!r}", self.source, Span(start, start + 1))


def unescape(literal: str) -> bytes:
    """The value of a quoted string literal (with its quotes), in UTF-8."""
    output = bytearray()
    for escape, plain in _ESCAPE.findall(literal[1:-1]):
        if plain:
            output += plain.encode("utf-8", "surrogateescape")
        elif escape[0] == "x" and len(escape) > 1:
            output.append(int(escape[1:], 16))
        elif escape[0] in "01234567":
            output.append(int(escape, 8) & 0xFF)
        elif escape in _ESCAPES:
            output.append(_ESCAPES[escape])
        else:
            output += b"\\" + escape.encode("utf-8", "surrogateescape")
    return bytes(output)
