"""The C preprocessor's lines in a script: conditionals are decided, #defines collected, #includes left out.

Types come from BTF, so headers are not needed; what scripts include them for besides types (constants such as
AF_INET) lives in builtins/constants.py. Every removed character becomes a space: offsets in the text stay valid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct

from insitu.kernel.version import running_version
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["preprocess"]

_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*([a-z_]+)\b[ \t]*(.*)", re.DOTALL)
_DEFINE = re.compile(r"([A-Za-z_]\w*)(\(?)[ \t]*(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")
_CONTINUED = re.compile(r"\\\r?\n")
_STRING_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|//[^\n]*|/\*.*?\*/|/\*|\*/""")
_ALWAYS_DEFINED = {
    "BPFTRACE_HAVE_BTF": "1",
    f"__{os.uname().machine}__": "1",
    "__linux__": "1",
    "INSITU": "1",
    "LINUX_VERSION_CODE": str(running_version()),
}
_WITHOUT_MEANING = ("include", "include_next", "pragma", "warning", "line", "ident")


def preprocess(source: Source, start: int = 0) -> tuple[str, dict[str, str]]:
    """A script's text with directives and dropped branches blanked, and its #defines (name -> replacement).

    Of an imported file, what precedes its ``start`` is blank, too.

    :raises ScriptError: for an unbalanced or unknown conditional, and for one whose value is unknown.
    """
    text = source.text[start:]
    before = " " * start
    if "#" not in text:
        return before + text, {}
    preprocessor = _Preprocessor(source)
    return before + preprocessor.run(text, start), preprocessor.defines


class _Branch(Struct):
    """An open conditional: whether lines are kept here, whether a branch was taken yet, and where it began."""

    kept: bool
    taken: bool
    begun: Span


class _Preprocessor:
    def __init__(self, source: Source) -> None:
        self._source = source
        self.defines: dict[str, str] = {}
        self._known = dict(_ALWAYS_DEFINED)

    def run(self, text: str, start: int) -> str:
        """The text of a file that begins at an offset, with its directives carried out."""
        output: list[str] = []
        branches: list[_Branch] = []
        offset, in_comment = start, False
        for line in _logical_lines(text):
            span = Span(offset, offset + len(line.rstrip("\r\n")))
            offset += len(line)
            match = None if in_comment else _DIRECTIVE.match(line)
            if line.startswith("#!") and span.start == start:
                output.append(_blank(line))
            elif match:
                at = _open_comment(line)
                whole = line if at < 0 else line[:at]
                self._directive(match[1], _plain(match[2][: len(whole) - match.start(2)]), span, branches)
                output.append(_blank(whole) + line[len(whole) :])
                in_comment = at >= 0
            else:
                output.append(line if all(each.kept for each in branches) else _blank(line))
                in_comment = _open_comment(line, in_comment) >= 0
        if branches:
            raise self._error("#if without #endif", branches[-1].begun)
        return "".join(output)

    def _directive(self, word: str, rest: str, span: Span, branches: list[_Branch]) -> None:
        kept = all(each.kept for each in branches)
        if word in ("if", "ifdef", "ifndef"):
            holds = kept and self._holds(word, rest, span)
            branches.append(_Branch(holds, holds or not kept, span))
        elif word in ("elif", "else", "endif"):
            if not branches:
                raise self._error(f"#{word} without #if", span)
            last = branches.pop()
            if word != "endif":
                holds = not last.taken and (word == "else" or self._holds("if", rest, span, "elif"))
                branches.append(_Branch(holds, last.taken or holds, last.begun))
        elif word == "define":
            if kept:
                self._define(rest, span)
        elif word == "undef":
            if kept:
                self.defines.pop(rest, None)
                self._known.pop(rest, None)
        elif word == "error":
            if kept:
                raise self._error(f"#error {rest}".rstrip(), span)
        elif kept and word not in _WITHOUT_MEANING:
            raise self._error(f"unknown directive #{word}", span)

    def _holds(self, word: str, rest: str, span: Span, shown: str = "") -> bool:
        if word != "if":
            if not _NAME.fullmatch(rest):
                raise self._error(f"expected a name after #{word}", span)
            return (rest in self._known) == (word == "ifdef")
        # Scripts without conditions start without.
        from insitu.probe.bpftrace.conditions import holds

        try:
            return holds(rest, self._known)
        except ValueError as error:
            raise self._error(f"cannot evaluate #{shown or word}: {error}", span) from None

    def _define(self, rest: str, span: Span) -> None:
        match = _DEFINE.match(rest)
        if not match:
            raise self._error("expected a name after #define", span)
        if match[2]:
            raise ScriptError("#define with parameters is not supported", self._source, span, remedy="write a macro")
        self.defines[match[1]] = self._known[match[1]] = match[3]

    def _error(self, message: str, span: Span) -> ScriptError:
        return ScriptError(message, self._source, span)


def _logical_lines(text: str) -> Iterator[str]:
    """The lines of a text, with their ends; a line that ends in a backslash goes on in the next."""
    held = ""
    for line in text.splitlines(keepends=True):
        held += line
        if not line.rstrip("\r\n").endswith("\\") or not _DIRECTIVE.match(held):
            yield held
            held = ""
    if held:
        yield held


def _blank(line: str) -> str:
    return "".join(c if c in "\r\n" else " " for c in line)


def _plain(text: str) -> str:
    """What follows a directive's name, on one line and without comments."""
    return _STRING_OR_COMMENT.sub(lambda found: found[1] or " ", _CONTINUED.sub(" ", text)).strip()


def _open_comment(line: str, inside: bool = False) -> int:
    """Where a comment begins that goes on after the line (0 if it began before); -1 without one."""
    at = 0 if inside else -1
    for match in _STRING_OR_COMMENT.finditer(line):
        token = match.group()
        if at >= 0:
            at = -1 if token.endswith("*/") else at
        elif token == "/*":
            at = match.start()
    return at
