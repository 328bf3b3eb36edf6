"""The C preprocessor's lines in a script: conditionals are decided, #defines collected, headers read.

The kernel's types come from BTF, so its headers are not needed: of ``#include <...>``, what is not in a directory
given by -I is left out. What scripts include them for besides types (constants such as AF_INET) lives in
builtins/constants.py. Every removed character becomes a space: offsets in the text stay valid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from insitu.kernel.version import running_version
from insitu.probe.bpftrace.token_stream import MAX_DEPTH
from insitu.probe.source import ScriptError, Source, Span

if TYPE_CHECKING:
    from insitu.probe.bpftrace.conditions import Macro
    from insitu.probe.bpftrace.headers import Headers

__all__ = ["Includes", "Preprocessed", "preprocess"]

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
_INCLUDE = re.compile(r'([<"])([^">]+)[">]')
_MAX_DEPTH = 64  # of headers that include each other
_WITHOUT_MEANING = ("include_next", "pragma", "warning", "line", "ident")


class Includes:
    """Where headers are looked for (-I), those included before the script (--include), and those read so far."""

    def __init__(self, folders: Sequence[str] = (), first: Sequence[str] = ()) -> None:
        self.folders, self.first = folders, first
        self._headers: Headers | None = None

    def find(self, source: Source, name: str, span: Span, *, quoted: bool) -> tuple[int, str] | None:
        """A header's text, and where it begins in the source; None without such a header. :raises ScriptError:"""
        if not quoted and not self.folders:
            return None
        if self._headers is None:
            # Scripts without headers of their own start without.
            from insitu.probe.bpftrace.headers import Headers

            self._headers = Headers(source, self.folders)
        return self._headers.find(name, span, quoted=quoted)


class Preprocessed(Struct):
    """A file's text, as long as the source; the #defines (name -> replacement); the headers' texts, in order.

    ``in_headers``: the #defines that count in the headers' declarations, those that a header removes again included.
    """

    text: str
    defines: dict[str, str] = field(default_factory=dict)
    headers: dict[int, str] = field(default_factory=dict)  # by where they begin
    in_headers: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def preprocess(source: Source, start: int = 0, includes: Includes | None = None) -> Preprocessed:
    """A script's text with directives and dropped branches blanked.

    Of an imported file, what precedes its ``start`` is blank, too.

    :raises ScriptError: for an unbalanced or unknown conditional, one whose value is unknown, and a missing header.
    """
    text = source.text[start:]
    before = " " * start
    first = includes.first if includes is not None and not start else ()
    if "#" not in text and not first:
        return Preprocessed(before + text)
    preprocessor = _Preprocessor(source, includes or Includes())
    found = preprocessor.found
    for name in first:
        if not preprocessor.include(name, Span(0, 0), quoted=True):
            found.warnings.append(f"no header {name} beside the script or in a directory given by -I (left out)")
    found.text = before + preprocessor.run(text, start)
    return found


class _Branch(Struct):
    """An open conditional: whether lines are kept here, whether a branch was taken yet, and where it began."""

    kept: bool
    taken: bool
    begun: Span


class _Preprocessor:
    def __init__(self, source: Source, includes: Includes) -> None:
        self._source, self._includes = source, includes
        self.found = Preprocessed("")
        self._known: dict[str, str | Macro] = dict(_ALWAYS_DEFINED)
        self._doubtful: set[str] = set()
        self._included: set[int] = set()
        self._depth = 0  # in headers

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
            if len(branches) >= MAX_DEPTH:
                raise self._error(f"#{word} nested more than {MAX_DEPTH} levels deep", span)
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
                self.found.defines.pop(rest, None)
                self._known.pop(rest, None)
        elif word == "include":
            if kept:
                self._include(rest, span)
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
            problem = self._error(f"cannot evaluate #{shown or word}: {error}", span)
            if not self._depth:
                raise problem from None
            name = self._source.name_at(span)
            if name not in self._doubtful:  # one warning says enough of a header that is not for this compiler
                self._doubtful.add(name)
                self.found.warnings.append(f"{problem} (taken as false)")
            return False

    def _define(self, rest: str, span: Span) -> None:
        match = _DEFINE.match(rest)
        if not match:
            raise self._error("expected a name after #define", span)
        self._known[match[1]] = match[3]
        if match[2]:
            if not self._depth:
                message = "#define with parameters is not supported"
                raise ScriptError(message, self._source, span, remedy="write a macro")
            from insitu.probe.bpftrace.conditions import Macro

            parameters, _, replacement = match[3].partition(")")
            names = [name.strip() for name in parameters.split(",")] if parameters.strip() else []
            self._known[match[1]] = Macro(names, replacement)
        elif match[3] != match[1]:
            self.found.defines[match[1]] = self.found.in_headers[match[1]] = match[3]

    def _include(self, rest: str, span: Span) -> None:
        match = _INCLUDE.fullmatch(rest)
        if not match:
            raise self._error("expected a header's name in quotes or angle brackets after #include", span)
        quoted = match[1] == '"'
        if not self.include(match[2], span, quoted=quoted) and quoted:
            looked = "beside the script" if not self._depth else "beside this header"
            raise ScriptError(
                f"no header {match[2]!r} {looked}", self._source, span, remedy="-I DIR names where headers are"
            )

    def include(self, name: str, span: Span, *, quoted: bool) -> bool:
        """Read a header, once: whether there is one."""
        found = self._includes.find(self._source, name, span, quoted=quoted)
        if found is None or found[0] in self._included:
            return found is not None
        start, text = found
        self._included.add(start)
        if self._depth >= _MAX_DEPTH:
            raise self._error(f"headers include each other more than {_MAX_DEPTH} levels deep", span)
        self._depth += 1
        self.found.headers[start] = self.run(text, start)
        self._depth -= 1
        return True

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
