"""Rust symbol names: the legacy scheme and v0 (RFC 2603), printed without hashes, as libiberty prints them."""

import re
from collections.abc import Callable
from typing import Final

__all__ = ["demangle_rust"]

_MAX_DEPTH = 128
# Back references let a short name print an exponentially long one. Every level of nesting prints its text anew.
_MAX_CHARACTERS = 1 << 14
_MAX_PRINTED_CHARACTERS = 1 << 18

_LEGACY_HASH: Final = re.compile(rb"17h[0-9a-f]{16}E(?:\.[^\0]*)?$")
_LENGTH: Final = re.compile(r"0|[1-9]\d{0,5}")
_HEX: Final = re.compile(r"[0-9a-f]*_")
_ESCAPE: Final = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$|(\.\.)")
_ESCAPED: Final = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}

_BASIC_TYPES: Final = {
    "a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8", "i": "isize",
    "j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "p": "_", "s": "i16", "t": "u16",
    "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!",
}  # fmt: skip
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def demangle_rust(name: bytes) -> str | None:
    """The path that a mangled Rust name encodes; None if ``name`` is not one."""
    if name.startswith(b"_R"):
        # A vendor's suffix (".llvm.123") is not part of the name.
        text = name.partition(b".")[0].decode(errors="replace")[2:]
        try:
            return _V0(text).symbol()
        except (_MalformedError, IndexError):
            return None
    hashed = _LEGACY_HASH.search(name) if name.startswith(b"_ZN") else None
    return _legacy_path(name[3 : hashed.start()].decode(errors="replace")) if hashed else None


def _legacy_path(mangled: str) -> str | None:
    parts = []
    at = 0
    while at < len(mangled):
        digits = _LENGTH.match(mangled, at)
        if digits is None:
            return None
        at = digits.end() + int(digits[0])
        part = mangled[digits.end() : at]
        parts.append(_ESCAPE.sub(_unescaped, part.removeprefix("_") if part.startswith("_$") else part))
    return "::".join(parts) if at == len(mangled) else None


def _unescaped(match: re.Match[str]) -> str:
    if match[2]:
        return "::"
    code = match[1]
    return _ESCAPED.get(code) or (chr(int(code[1:], 16)) if int(code[1:], 16) < 0x110000 else match[0])


class _MalformedError(Exception):
    """The text is not a v0 name."""


class _V0:
    """A recursive descent over the grammar of RFC 2603; each method reads one production and gives its text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._printed = 0
        self._lifetimes = 0
        self._known: dict[tuple[str, int, int], str] = {}

    def symbol(self) -> str:
        """The whole name: a path, perhaps followed by the crate that instantiated it (not shown)."""
        path = self._path(value=True)
        if self._at < len(self._text):
            self._path(value=False)
        if self._at < len(self._text) or len(path) > _MAX_CHARACTERS:
            raise _MalformedError
        return path

    def _eat(self, char: str) -> bool:
        hit = self._text.startswith(char, self._at)
        self._at += hit
        return hit

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _MalformedError

    def _leave(self, text: str) -> str:
        self._depth -= 1
        self._printed += len(text)
        if self._printed > _MAX_PRINTED_CHARACTERS:
            raise _MalformedError
        return text

    def _base62(self) -> int:
        """ "_" is 0, "0_" is 1, and so on."""
        if self._eat("_"):
            return 0
        value = 0
        while not self._eat("_"):
            digit = _DIGITS.find(self._next())
            if digit < 0:
                raise _MalformedError
            value = value * 62 + digit
        return value + 1

    def _optional_base62(self, tag: str) -> int:
        return self._base62() + 1 if self._eat(tag) else 0

    def _identifier(self) -> tuple[int, str]:
        """A disambiguator and a name."""
        disambiguator = self._optional_base62("s")
        puny = self._eat("u")
        digits = _LENGTH.match(self._text, self._at)
        if digits is None:
            raise _MalformedError
        self._at = digits.end()
        self._eat("_")
        start, self._at = self._at, self._at + int(digits[0])
        if self._at > len(self._text):
            raise _MalformedError
        name = self._text[start : self._at]
        return disambiguator, _from_punycode(name) if puny else name

    def _from_back_reference(self, start: int, kind: str, read: Callable[[], str]) -> str:
        """What an earlier offset holds, read as ``kind``: names that repeat long parts are read in linear time."""
        target = self._base62()
        if target >= start:
            raise _MalformedError
        key = (kind, target, self._lifetimes)
        text = self._known.get(key)
        if text is None:
            resume, self._at = self._at, target
            text = self._known[key] = read()
            self._at = resume
        return text

    def _path(self, *, value: bool) -> str:
        """``value``: generic arguments are written as in expressions, "f::<T>"."""
        self._enter()
        start, tag = self._at, self._next()
        match tag:
            case "C":
                text = self._identifier()[1]
            case "N":
                space = self._next()
                outer = self._path(value=value)
                number, name = self._identifier()
                if space.isupper():
                    kind = {"C": "closure", "S": "shim"}.get(space, space)
                    text = f"{outer}::{{{kind}{':' if name else ''}{name}#{number}}}"
                else:
                    text = f"{outer}::{name}" if name else outer
            case "M" | "X":
                self._optional_base62("s")
                self._path(value=False)  # where the impl is, which is not shown
                text = self._type()
                text = f"<{text} as {self._path(value=False)}>" if tag == "X" else f"<{text}>"
            case "Y":
                text = self._type()
                text = f"<{text} as {self._path(value=False)}>"
            case "I":
                outer = self._path(value=value)
                text = f"{outer}{'::' if value else ''}<{', '.join(self._until_end(self._generic))}>"
            case "B":
                text = self._from_back_reference(start, "value" if value else "path", lambda: self._path(value=value))
            case _:
                raise _MalformedError
        return self._leave(text)

    def _until_end(self, read: Callable[[], str]) -> list[str]:
        items = []
        while not self._eat("E"):
            items.append(read())
        return items

    def _generic(self) -> str:
        if self._eat("L"):
            return self._lifetime()
        return self._const() if self._eat("K") else self._type()

    def _lifetime(self) -> str:
        index = self._base62()
        if not index:
            return "'_"
        depth = self._lifetimes - index
        if depth < 0:
            raise _MalformedError
        return f"'{chr(ord('a') + depth)}" if depth < 26 else f"'_{depth}"

    def _binder(self) -> str:
        """ "for<'a, 'b> " with the lifetimes that it declares; the caller takes them back."""
        count = self._optional_base62("G")
        if count > _MAX_DEPTH:
            raise _MalformedError
        names = []
        for _ in range(count):
            self._lifetimes += 1
            depth = self._lifetimes - 1
            names.append(f"'{chr(ord('a') + depth)}" if depth < 26 else f"'_{depth}")
        return f"for<{', '.join(names)}> " if names else ""

    def _type(self) -> str:
        self._enter()
        start, tag = self._at, self._next()
        if tag in _BASIC_TYPES:
            return self._leave(_BASIC_TYPES[tag])
        match tag:
            case "R" | "Q":
                lifetime = self._lifetime() if self._eat("L") else "'_"
                text = "&" + ("" if lifetime == "'_" else f"{lifetime} ") + ("mut " if tag == "Q" else "")
                text += self._type()
            case "P":
                text = f"*const {self._type()}"
            case "O":
                text = f"*mut {self._type()}"
            case "A":
                item = self._type()
                text = f"[{item}; {self._const()}]"
            case "S":
                text = f"[{self._type()}]"
            case "T":
                items = self._until_end(self._type)
                text = f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            case "F":
                text = self._function()
            case "D":
                text = self._dynamic()
            case "B":
                text = self._from_back_reference(start, "type", self._type)
            case _:
                self._at = start
                text = self._path(value=False)
        return self._leave(text)

    def _function(self) -> str:
        before = self._lifetimes
        text = self._binder() + ("unsafe " if self._eat("U") else "")
        if self._eat("K"):
            abi = "C" if self._eat("C") else self._identifier()[1].replace("_", "-")
            text += f'extern "{abi}" '
        text += f"fn({', '.join(self._until_end(self._type))})"
        result = self._type()
        self._lifetimes = before
        return text if result == "()" else f"{text} -> {result}"

    def _dynamic(self) -> str:
        before = self._lifetimes
        text = "dyn " + self._binder() + " + ".join(self._until_end(self._trait))
        self._lifetimes = before
        if not self._eat("L"):
            raise _MalformedError
        lifetime = self._lifetime()
        return text if lifetime == "'_" else f"{text} + {lifetime}"

    def _trait(self) -> str:
        path = self._path(value=False)
        bindings = []
        while self._eat("p"):
            name = self._identifier()[1]
            bindings.append(f"{name} = {self._type()}")
        if not bindings:
            return path
        listed = ", ".join(bindings)
        return f"{path[:-1]}, {listed}>" if path.endswith(">") else f"{path}<{listed}>"

    def _const(self) -> str:
        self._enter()
        start, tag = self._at, self._next()
        if tag == "B":
            return self._leave(self._from_back_reference(start, "const", self._const))
        if tag == "p":
            return self._leave("_")
        if tag not in _BASIC_TYPES:
            raise _MalformedError
        sign = "-" if self._eat("n") else ""
        digits = _HEX.match(self._text, self._at)
        if digits is None:
            raise _MalformedError
        self._at = digits.end()
        number = int(digits[0][:-1] or "0", 16)
        if tag == "b":
            return self._leave("true" if number else "false")
        if tag == "c":
            return self._leave(repr(chr(number)) if number < 0x110000 else "_")
        return self._leave(f"{sign}{number}" if number < 1 << 64 else f"{sign}{number:#x}")


def _from_punycode(name: str) -> str:
    """RFC 3492, with "_" for the delimiter."""
    plain, _, coded = name.rpartition("_")
    try:
        return f"{plain}-{coded}".encode().decode("punycode") if plain else coded.encode().decode("punycode")
    except UnicodeError:
        return name
