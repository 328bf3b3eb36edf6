"""The C preprocessor's lines in a script: conditionals are decided, simple #defines collected, #includes ignored.

Types come from BTF, so headers are not needed; what scripts include them for besides types (constants such as
AF_INET) lives in builtins/constants.py. Every removed character becomes a space: offsets in the text stay valid.
"""

from __future__ import annotations

import re

from insitu.probe.source import ScriptError, Source, Span

__all__ = ["preprocess"]

_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*([a-z]+)\b[ \t]*(.*)")
_DEFINE = re.compile(r"([A-Za-z_]\w*)(\(?)[ \t]*(.*)")
_ALWAYS_DEFINED = {"BPFTRACE_HAVE_BTF": "1", "__x86_64__": "1", "INSITU": "1"}


def preprocess(source: Source, start: int = 0) -> tuple[str, dict[str, str]]:
    """A script's text with directives and dropped branches blanked, and its #defines (name -> replacement).

    Of an imported file, what precedes its ``start`` is blank, too.

    :raises ScriptError: for an unbalanced or unknown conditional, or a function-like #define.
    """
    text = source.text[start:]
    before = " " * start
    if "#" not in text:
        return before + text, {}
    defines: dict[str, str] = {}
    known = dict(_ALWAYS_DEFINED)
    output: list[str] = []
    # One entry per open conditional: (lines are kept here, some branch was taken, where it began).
    stack: list[tuple[bool, bool, Span]] = []
    offset = start
    in_comment = False
    for line in text.splitlines(keepends=True):
        span = Span(offset, offset + len(line.rstrip("\r\n")))
        offset += len(line)
        match = None if in_comment else _DIRECTIVE.match(line)
        keep = all(kept for kept, _, _ in stack)
        if match and line.lstrip().startswith("#!") is False:
            word, rest = match.group(1), _without_comment(match.group(2))
            if word in ("if", "ifdef", "ifndef"):
                holds = _holds(word, rest, known)
                stack.append((holds, holds, span))
            elif word in ("else", "elif", "endif"):
                if not stack:
                    raise ScriptError(f"#{word} without #if", source, span)
                _, taken, begun = stack.pop()
                if word != "endif":
                    holds = not taken and (word == "else" or _holds("if", rest, known))
                    stack.append((holds, taken or holds, begun))
            elif word == "define" and keep:
                _define(rest, source, span, defines, known)
            elif word == "undef" and keep:
                defines.pop(rest, None)
                known.pop(rest, None)
            elif word not in ("include", "pragma", "define", "undef", "error", "warning", "line"):
                raise ScriptError(f"unknown directive #{word}", source, span)
            output.append(_blank(line))
            continue
        if line.startswith("#!") and span.start == start:
            output.append(_blank(line))
            continue
        output.append(line if keep else _blank(line))
        in_comment = _ends_in_comment(line, in_comment)
    if stack:
        raise ScriptError("#if without #endif", source, stack[-1][2])
    return before + "".join(output), defines


def _blank(line: str) -> str:
    return "".join(c if c in "\r\n" else " " for c in line)


def _without_comment(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//.*", "", text).strip()


def _holds(word: str, rest: str, known: dict[str, str]) -> bool:
    if word == "ifdef":
        return rest in known
    if word == "ifndef":
        return rest not in known
    match = re.fullmatch(r"(!?)\s*defined\s*\(?\s*(\w+)\s*\)?", rest)
    if match:
        return (match.group(2) in known) != bool(match.group(1))
    return rest.strip() not in ("0", "") and (rest.isdigit() or known.get(rest, "0") not in ("0", ""))


def _define(rest: str, source: Source, span: Span, defines: dict[str, str], known: dict[str, str]) -> None:
    match = _DEFINE.match(rest)
    if not match:
        raise ScriptError("expected a name after #define", source, span)
    if match.group(2):
        raise ScriptError("#define with parameters is not supported", source, span, remedy="write a macro")
    defines[match.group(1)] = known[match.group(1)] = match.group(3)


_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*|\*/')


def _ends_in_comment(line: str, inside: bool) -> bool:
    for match in _STRING_OR_COMMENT.finditer(line):
        token = match.group()
        if inside:
            inside = token != "*/" and not token.endswith("*/")
        elif token == "/*":
            inside = True
    return inside
