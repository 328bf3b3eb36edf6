"""Functions' names where room is short: which of a name's parts go first, and how names that shorten alike differ.

The pages shorten by the same rule (web/src/shorten.ts); tests/unit/function_names.json tests both. The rule
knows the names of C++ (demangled by any demangler), Rust, Go, .NET, Java, Swift and of interpreters' perf maps. It
takes brackets for what their place says: "<" after a word opens template arguments, "(" after one parameters.
What is in square brackets as a whole, a module or a wait ("[fsync /tmp/f]"), is not a function: it stays whole.
Brackets at other places are part of the name: "<A as B>::compare", "main.(*T).Method", "validate.<locals>.<genexpr>".
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["module_labels", "name_forms", "short_name", "told_apart"]

_MOST: Final = 10_000  # characters that are looked at
_DEEPEST: Final = 100  # brackets within each other; what nests deeper is left as it is
_CLOSING: Final = {"(": ")", "[": "]", "{": "}", "<": ">"}
_OPERATOR: Final = re.compile(
    r'operator(?:\(\)|\[\]|<=>|->\*?|<<=?|>>=?|&&|\|\||\+\+|--|[<>=!+\-*/%^&|~,]=?|""\s?\w+'
    r"| (?:new|delete)(?:\[\])?| co_await)"
)
_CONVERSION: Final = re.compile(r"operator (?=[\w:(])")
_WORD: Final = re.compile(r"[\w$~')\]}>]")  # what a list of arguments or parameters may follow
# Where interpreters' perf maps say a function is: "JS:*sort /srv/app.js:8:19", "py::sort:/srv/app.py".
_PLACE: Final = re.compile(r"[ :](?=(?:file://|node:(?!:)|/)\S*$)")
_NAMELESS: Final = re.compile(r"\w+:[~*^+]?(?:<anonymous>|\(anonymous\))?")
# What languages call functions without a name of their own; after "::", these are no arguments.
_PSEUDO: Final = re.compile(
    r"<(?:impl .*|(?:cl)?init|module|lambda|\w+comp|genexpr|locals|anonymous|string|unknown)>"
)
# After parameters.
_TAIL: Final = re.compile(
    r"(?: (?:const|volatile|noexcept|&&?)(?!\w)| \[clone [^\]]*\]| \(\.[^)]*\)|\[\w+\]$|(?: async| throws)* -> .*$)*"
)
_CLONE: Final = re.compile(r" \[clone [^\]]*\]| \(\.[^)]*\)")
_HASH: Final = re.compile(r"::h[0-9a-f]{16}$")
_PACKAGE: Final = re.compile(r"/[^\W\d][^:]*\.[^:]*$")  # of Go, or a file
_TELLING: Final = re.compile(r"[^\W\d]|~")
_TIER: Final = re.compile(r"[A-Za-z]+:[~*^+](?=(?:[^\W\d]|\$)[^\s<]*$)")  # "JS:*": of what is compiled, and how far
_KEPT_HEAD: Final = re.compile(r"(?:\b(?:in|to|for|of)|#\d+) $")


class _UnbalancedError(ValueError):
    pass


def name_forms(name: str) -> list[str]:
    """``name``, then ever shorter forms of it, each of which still says which function it is.

    Without its place and parameters, with only the outer template arguments, without these (``short_name``), and
    without its scope.
    """
    short = _forms_to_short(name)
    return _ever_shorter([*short, _without_scope(short[-1])])


def short_name(name: str) -> str:
    """``name`` without its place in a script, its parameters, its return type and its template arguments."""
    return _forms_to_short(name)[-1]


def told_apart(names: Sequence[str], modules: Sequence[str] = ()) -> list[str]:
    """The short names of ``names``, but longer forms of those that shorten alike.

    Equal names of different ``modules`` (paths, one for each name) are followed by the modules' labels.
    """
    shown = _apart([_forms_to_short(name)[::-1] for name in names])
    if not modules:
        return shown
    labels = module_labels(modules)
    among: dict[str, set[str]] = {}
    for text, module in zip(shown, modules, strict=True):
        among.setdefault(text, set()).add(module)
    return [
        f"{text} ({label})" if label and len(among[text]) > 1 else text
        for text, label in zip(shown, labels, strict=True)
    ]


def module_labels(paths: Sequence[str]) -> list[str]:
    """The file names of modules' paths, with as much of their directories as tells different ones apart."""
    return _apart([_path_forms(path) for path in paths])


def _path_forms(path: str) -> list[str]:
    """The last part of a path, the last two, ... and all of it; what is in brackets stays whole."""
    parts = path.split("/")
    if path[:1] == "[" or not parts[-1]:
        return [path]
    return ["/".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def _apart(forms: Sequence[Sequence[str]]) -> list[str]:
    """Of each item the first form that no other item has, its last at most; items of equal last forms are equal."""
    level = [0] * len(forms)
    raised = True
    while raised:
        raised = False
        alike: dict[str, list[int]] = {}
        for at, own in enumerate(forms):
            alike.setdefault(own[level[at]], []).append(at)
        for group in alike.values():
            if len({forms[at][-1] for at in group}) > 1:
                for at in group:
                    if level[at] + 1 < len(forms[at]):
                        level[at] += 1
                        raised = True
    return [own[at] for own, at in zip(forms, level, strict=True)]


def _forms_to_short(name: str) -> list[str]:
    if name.isidentifier() or _is_label(name):
        return [name]
    text = name if len(name) <= _MOST else name[:_MOST]
    place = _PLACE.search(text)
    if place:
        stem, where = text[: place.start()], text[place.end() :]
        with_file = f"{stem}{place[0]}{where.rpartition('/')[2]}"
        return _ever_shorter([name, with_file, *([] if _NAMELESS.fullmatch(stem) else [stem])])
    text = _HASH.sub("", text)
    try:
        return _ever_shorter([name, *(_scanned(text, levels) for levels in (_MOST, 1, 0))])
    except _UnbalancedError:
        return [name]


def _is_label(name: str) -> bool:
    return name[:1] == "[" and name[-1:] == "]"


def _ever_shorter(forms: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for form in forms:
        if not kept or (form and len(form) < len(kept[-1])):
            kept.append(form)
    return kept


def _scanned(name: str, levels: int) -> str:
    """``name`` without parameters and return type; template arguments deeper than ``levels`` are left out."""
    out = ""
    head, signed = 0, False  # where the last word begins in ``out``, and whether it has parameters
    at = 0
    while at < len(name):
        character, before = name[at], name[at - 1] if at else ""
        operator = _operator(name, at)
        if operator:
            out += operator if _OPERATOR.match(operator) else _bracketed(operator, "", levels)
            at += len(operator)
            rest = at + 1 if name[at : at + 2] == " <" else at
            if name[rest : rest + 1] == "<":
                end = _end(name, rest)
                if levels:
                    out += f"{name[at:rest]}<{_arguments(name[rest + 1 : end], levels)}>"
                at = end + 1
            if name[at : at + 1] == "(":
                at = _after_parameters(name, _end(name, at) + 1)
                signed = True
        elif character == "(" and _WORD.match(before):
            end = _end(name, at)
            if name[end + 1 : end + 2] == ".":  # Zig's generic types
                out += "(…)"
                at = end + 1
            else:
                at = _after_parameters(name, end + 1)
                signed = True
        elif character == "<" and (_WORD.match(before) or (out.endswith("::") and not _PSEUDO.match(name, at))):
            end = _end(name, at)
            out += f"<{_arguments(name[at + 1 : end], levels)}>"
            at = end + 1
        elif character == "[" and _WORD.match(before):
            end = _end(name, at)
            inner = name[at + 1 : end]
            if not inner.startswith("abi:"):
                out += f"[{_arguments(inner, levels)}]"
            at = end + 1
        elif character in _CLOSING:
            end = _end(name, at)
            out += f"{character}{_bracketed(name[at + 1 : end], character, levels)}{name[end]}"
            at = end + 1
        elif character in ")]}" or (character == ">" and before not in ("-", "=")):
            raise _UnbalancedError(name)
        elif character == " ":
            clone = _CLONE.match(name, at)
            if not clone:
                out += " "
                head, signed = len(out), False
            at = clone.end() if clone else at + 1
        else:
            out += character
            at += 1
    if signed and not _KEPT_HEAD.search(out[:head]):
        out = out[head:]
    return out.strip()


def _operator(name: str, at: int) -> str:
    """The C++ operator's name that begins at ``at``, of a conversion with its type; "" where none does."""
    if not name.startswith("operator", at) or (at and (name[at - 1].isalnum() or name[at - 1] in "_$")):
        return ""
    symbol = _OPERATOR.match(name, at)
    if symbol:
        return symbol[0]
    conversion = _CONVERSION.match(name, at)
    if not conversion:
        return ""
    end = conversion.end()
    try:
        while end < len(name) and name[end] != "(":
            end = _end(name, end) + 1 if name[end] in "<[" else end + 1
    except _UnbalancedError:
        return ""
    return name[at:end]


def _after_parameters(name: str, at: int) -> int:
    tail = _TAIL.match(name, at)
    return tail.end() if tail else at


def _arguments(inner: str, levels: int) -> str:
    """Template arguments as far as ``levels`` show them."""
    if levels >= _MOST or len(inner) < 2:
        return inner
    if not levels:
        return "…"
    out, at = "", 0
    while at < len(inner):
        operator = _operator(inner, at)
        if operator:
            out += operator
            at += len(operator)
        elif inner[at] in "<([{" and not _is_comparison(inner, at):
            end = _end(inner, at)
            out += f"{inner[at]}{_arguments(inner[at + 1 : end], levels - 1)}{inner[end]}"
            at = end + 1
        else:
            out += inner[at]
            at += 1
    return out


def _bracketed(inner: str, opening: str, levels: int) -> str:
    """What stands in brackets that are part of a name: of lambdas without parameters, of types without arguments."""
    out, at = "", 0
    while at < len(inner):
        character, before = inner[at], inner[at - 1] if at else ""
        if character not in _CLOSING or _is_comparison(inner, at):
            out += character
            at += 1
            continue
        end = _end(inner, at)
        within = inner[at + 1 : end]
        if character == "(" and opening == "{":
            within = ""
        elif character in "<[" and _WORD.match(before):
            out += f"{character}{_arguments(within, levels)}{inner[end]}"
        else:
            out += f"{character}{_bracketed(within, character, levels)}{inner[end]}"
        at = end + 1
    return out


def _end(name: str, at: int) -> int:
    """Where the bracket at ``at`` closes. Raises _UnbalancedError."""
    open_: list[str] = []
    start = at
    while at < len(name):
        character = name[at]
        if character in _CLOSING and (at == start or not _is_comparison(name, at)):
            open_.append(_CLOSING[character])
            if len(open_) > _DEEPEST:
                raise _UnbalancedError(name)
        elif character == ">":
            if open_[-1] == ">" and name[at - 1] not in "-=":
                open_.pop()
        elif character in ")]}":
            if open_.pop() != character:
                raise _UnbalancedError(name)
        elif character == "o" and _OPERATOR.match(operator := _operator(name, at)):
            at += len(operator)
            continue
        if not open_:
            return at
        at += 1
    raise _UnbalancedError(name)


def _is_comparison(name: str, at: int) -> bool:
    """Whether the "<" at ``at`` compares, or shifts, within an argument: "f<(1 < 2)>"."""
    return name[at] == "<" and name[at - 1 : at] == " " and name[at + 1 : at + 2] in (" ", "<", "=")


def _without_scope(short: str) -> str:
    """The part from the last word of ``short`` on that names something; operators and lambdas name nothing."""
    if _is_label(short):
        return short
    tier = _TIER.match(short)
    if tier:
        return short[tier.end() :]
    starts, depth, at = [0], 0, 0
    while at < len(short):
        operator = _operator(short, at)
        if operator:
            at += len(operator)
            continue
        character = short[at]
        if character in _CLOSING:
            depth += 1
        elif character in ")]}" or (character == ">" and short[at - 1 : at] not in ("-", "=")):
            depth -= 1
        elif not depth and character == " ":
            return short  # "vtable for A"
        elif not depth and short.startswith("::", at):
            starts.append(at + 2)
            at += 1
        elif not depth and character == "/" and _PACKAGE.match(short, at):
            starts.append(at + 1)
        at += 1
    telling = (at for at in reversed(starts) if _TELLING.match(short, at) and not _operator(short, at))
    return short[next(telling, 0) :]
