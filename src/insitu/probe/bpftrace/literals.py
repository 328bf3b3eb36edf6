"""Numbers and C's names of integer types, as scripts write them."""

from __future__ import annotations

__all__ = ["C_WORDS", "FLOATING_TYPES", "INTEGER_TYPES", "canonical", "integer_value"]

# Name -> (bytes, signed): the language's integer types and C's spellings of them (LP64).
INTEGER_TYPES: dict[str, tuple[int, bool]] = {
    **{f"int{8 * n}": (n, True) for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": (n, False) for n in (1, 2, 4, 8)},
    **{f"int{8 * n}_t": (n, True) for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}_t": (n, False) for n in (1, 2, 4, 8)},
    **{f"{p}s{8 * n}": (n, True) for n in (1, 2, 4, 8) for p in ("", "__")},
    **{f"{p}u{8 * n}": (n, False) for n in (1, 2, 4, 8) for p in ("", "__")},
    "bool": (1, False),
    "char": (1, True),
    "short": (2, True),
    "int": (4, True),
    "long": (8, True),
    "unsigned": (4, False),
    "unsigned char": (1, False),
    "unsigned short": (2, False),
    "unsigned int": (4, False),
    "unsigned long": (8, False),
    "size_t": (8, False),
    "ssize_t": (8, True),
    "uintptr_t": (8, False),
    "intptr_t": (8, True),
    "pid_t": (4, True),
    "uid_t": (4, False),
    "gid_t": (4, False),
    "off_t": (8, True),
    "loff_t": (8, True),
}
C_WORDS = frozenset(
    ("unsigned", "signed", "char", "short", "int", "long", "const", "volatile", "float", "double", "_Bool")
)
# What is laid out as in C, and not calculated with: bytes on LP64.
FLOATING_TYPES = {"float": 4, "double": 8, "long double": 16}
_DURATIONS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_UINT64_MAX = 2**64 - 1


def integer_value(written: str) -> tuple[int, bool]:
    """Value and unsignedness of a number as written.

    :raises ValueError: when it is not a number, or does not fit in 64 bits.
    """
    text = written.replace("_", "").lower()
    is_hex = text.startswith("0x")
    scale = 1
    if not is_hex:
        digits = text.rstrip("abcdfghijklmnopqrstuvwxyz")
        suffix = text[len(digits) :]
        if suffix in _DURATIONS:
            scale, text = _DURATIONS[suffix], digits
    unsigned = "u" in text
    text = text.rstrip("ul")
    if is_hex:
        value = int(text, 16) if len(text) < 40 else _UINT64_MAX + 1
    elif "e" in text:
        mantissa, exponent = text.split("e")
        value = int(mantissa) * 10 ** int(exponent) if len(text) < 40 and int(exponent) < 20 else _UINT64_MAX + 1
    elif len(text) > 40:
        value = _UINT64_MAX + 1
    elif len(text) > 1 and text[0] == "0":
        try:
            value = int(text, 8)
        except ValueError:
            raise ValueError(f"{written} is not an octal number") from None
    else:
        value = int(text)
    value *= scale
    if value > _UINT64_MAX:
        raise ValueError(f"{written} does not fit in 64 bits")
    return value, unsigned or value > 2**63 - 1


def canonical(words: list[str]) -> str:
    """``long unsigned int`` -> ``unsigned long``."""
    if not set(words) <= C_WORDS:
        return words[-1]
    if {"signed", "char"} <= set(words):
        return "int8"  # a type apart from char, whose arrays are text
    if "double" in words:
        return "long double" if "long" in words else "double"
    for name in ("float", "_Bool"):
        if name in words:
            return "bool" if name == "_Bool" else name
    unsigned = "unsigned " if "unsigned" in words else ""
    for size in ("char", "short"):
        if size in words:
            return unsigned + size
    return unsigned + ("long" if "long" in words else "int")
