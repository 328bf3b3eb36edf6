"""Symbol names as people read them: C++ and Rust names demangled in perf's form, without parameters."""

import re
from functools import lru_cache
from typing import Final

from insitu.symbols.bounded_demangle import cxa_demangle
from insitu.symbols.demangle_rust import demangle_rust

__all__ = ["demangle", "demangle_with_parameters"]

# Longer names cost the demanglers more than anybody would read.
_MAX_MANGLED_BYTES = 1 << 14
_MAX_SHOWN_CHARACTERS = 1 << 14

_PLT_SUFFIX: Final = b"@plt"


@lru_cache(maxsize=1 << 16)
def demangle(name: bytes) -> str:
    """The shown form of a symbol's name; names that are not mangled stay as they are, whatever bytes they hold."""
    if name.endswith(_PLT_SUFFIX):
        return demangle(name[: -len(_PLT_SUFFIX)]) + _PLT_SUFFIX.decode()
    shown = None
    if name[:2] in (b"_Z", b"_R") and len(name) <= _MAX_MANGLED_BYTES:
        shown = demangle_rust(name) or (_demangle_cpp(name) if name[:2] == b"_Z" else None)
    return shown if shown is not None else name.decode(errors="replace")


def demangle_with_parameters(name: bytes) -> str:
    """A C++ name with the parameters that distinguish overloads (``ns::f(int)``); others as demangle() shows them."""
    full = cxa_demangle(name) if name[:2] == b"_Z" and len(name) <= _MAX_MANGLED_BYTES else None
    return demangle(name) if full is None else full


def _demangle_cpp(name: bytes) -> str | None:
    """The name without parameters and return type, as libiberty prints it by default."""
    # What follows the mangled name proper (".cold", ".part.0", "@@GLIBCXX_3.4") is not shown.
    full = cxa_demangle(re.split(rb"[.@]", name, maxsplit=1)[0])
    if full is None or len(full) > _MAX_SHOWN_CHARACTERS:
        return None
    return full if _SPECIAL.match(full) else _without_signature(full)


# Names that are not of a function, or of a function derived from another, which is shown whole.
_SPECIAL: Final = re.compile(
    r"(vtable|VTT|typeinfo( name| fn)?|guard variable|(non-virtual |virtual |covariant return )thunk|"
    r"construction vtable|TLS (init|wrapper) function|reference temporary #\d+|(non-)?transaction clone|"
    r"template parameter object|initializer|hidden alias) (for|to) "
)
# Six of ten functions, for which the rest is not needed.
_PLAIN: Final = re.compile(r"([\w:~]+)\([^()]*\)(?: const)?")
_QUALIFIERS: Final = (" const", " volatile", " &&", " &", "&&", "&", " noexcept", " transaction_safe")
_MAX_NESTING: Final = 64
_OPERATOR: Final = re.compile(
    r"\boperator(\(\)|\[\]|->\*?|<=>|<<=?|>>=?|<=|>=|<|>|[^\w\s(<]+| new\[\]| delete\[\]| new\b| delete\b|"
    r" ?\"\" ?\w+| co_await)( (?=<))?"
)
_CONVERSION: Final = re.compile(r"\boperator [^()]*$")
# Of the function that a local name is in: "outer() const::{lambda()#1}::operator()".
_INNER_QUALIFIER: Final = re.compile(r" (const|volatile|&&?)(::| )")
_PARENTHESIS: Final = re.compile(r"[()]")
_BRACKET_OR_SPACE: Final = re.compile(r"[\[\](){}<> ]")
_OPENING: Final = {")": "(", ">": "<", "]": "[", "}": "{"}


def _without_signature(full: str) -> str:
    """``full`` without its parameters, the qualifiers after them, and the return type before the name."""
    for _ in range(_MAX_NESTING):
        if plain := _PLAIN.fullmatch(full):
            return plain[1]
        bare = full
        while bare.endswith(_QUALIFIERS):
            bare = bare.removesuffix(next(each for each in _QUALIFIERS if bare.endswith(each)))
        if not bare.endswith(")"):
            return full
        open_at = _matching(bare, len(bare) - 1)
        named = bare[:open_at]
        if not named or named.endswith("operator "):  # a conversion to a pointer to function
            return full
        if not named.endswith(")") or named.endswith("operator()"):
            break
        # A function that returns a pointer to function: "void (*name(parameters))(parameters of that)".
        inner = _matching(named, len(named) - 1)
        if named[inner + 1 : inner + 2] not in ("*", "&"):
            break
        full = named[inner + 1 : -1].lstrip("*& ")
    else:
        return full
    # Operators and conversions hold brackets and spaces of their own: blind them.
    blind = _OPERATOR.sub(lambda match: "_" * len(match[0]), named)
    blind = _CONVERSION.sub(lambda match: "_" * len(match[0]), blind)
    return named[_name_start(blind) :]


def _matching(text: str, close: int) -> int:
    """Where the parenthesis opens that closes at ``close``; 0 if nowhere."""
    depth = 0
    for found in reversed([*_PARENTHESIS.finditer(text, 0, close + 1)]):
        if found[0] == ")":
            depth += 1
        else:
            depth -= 1
            if not depth:
                return found.start()
    return 0


def _name_start(text: str) -> int:
    """Where the last word of ``text`` starts, not counting spaces inside brackets."""
    closers: list[str] = []
    for found in reversed([*_BRACKET_OR_SPACE.finditer(text)]):
        at, char = found.start(), found[0]
        if char in ")]}" or (char == ">" and text[at - 1] != "-" and (not closers or closers[-1] != ")")):
            closers.append(char)
        elif char in "([{<":
            if closers and _OPENING[closers[-1]] == char:
                closers.pop()
        elif char == " " and not closers and not _INNER_QUALIFIER.match(text, at):
            return at + 1
    return 0
