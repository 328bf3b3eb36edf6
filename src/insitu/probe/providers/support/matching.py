"""Wildcards of attach points, and the error when nothing matches them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from insitu.errors import InsituError
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec

__all__ = ["amount", "as_written", "has_wildcard", "missing", "number", "parts", "select"]


_NUMBER = re.compile(r"0[xX][0-9a-fA-F_]{1,99}|[0-9][0-9_]{0,99}([eE][0-9]{1,2})?")
_NS_PER = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def number(text: str) -> int | None:
    """A number as the language writes it (``1000``, ``0x3e8``, ``1e3``, ``1_000``); None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    digits, exponent = text.replace("_", ""), ""
    if digits[:2].lower() == "0x":
        return int(digits, 16)
    digits, _, exponent = digits.lower().partition("e")
    scale: int = 10 ** int(exponent or 0)
    return int(digits) * scale


def amount(text: str) -> int | None:
    """A number, or nanoseconds for one with a unit of time: ``10ms``."""
    digits = text.rstrip("nsumhd")
    unit = text[len(digits) :]
    found = number(digits)
    return None if found is None or unit not in ("", *_NS_PER) else found * _NS_PER.get(unit, 1)


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern may name several: ``*`` matches any text, and is the only wildcard."""
    return "*" in pattern


def select(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that match, in their order."""
    if pattern == "*":
        return list(names)
    if not has_wildcard(pattern):
        return [name for name in names if name == pattern]
    match = re.compile(".*".join(re.escape(piece) for piece in pattern.split("*")), re.DOTALL).fullmatch
    return [name for name in names if match(name)]


def as_written(point: AttachPoint, path: str) -> AttachPoint:
    """The point named with the path that was given, as bpftrace does, rather than with its absolute form.

    Of a relative pattern, with the part of the path that is relative.
    """
    if f"{point.target}@" in point.name:
        path = path.rpartition("@")[0]  # BINARY@SOURCE:LINE
    if "/" not in path or not point.target.startswith("/"):
        return point
    if not has_wildcard(path):
        return replace(point, name=point.name.replace(point.target, path, 1))
    directory = f"{os.getcwd()}/"  # noqa: PTH109 - a start without pathlib
    if path.startswith("/") or not point.target.startswith(directory):
        return point
    shown = ("./" if path.startswith("./") else "") + point.target.removeprefix(directory)
    return replace(point, name=point.name.replace(point.target, shown, 1))


_CANDIDATES = 100


def _similar(name: str, names: Collection[str]) -> list[str]:
    """The names that share most groups of three letters with ``name``: difflib is too slow for a whole kernel's.

    The names are searched as one text: it takes a kernel's 60,000 some milliseconds.
    """
    text = "\n".join(names)
    shared: Counter[int] = Counter()
    for group in {name[at : at + 3] for at in range(len(name) - 2)}:
        shared.update({text.rfind("\n", 0, found.start()) + 1 for found in re.finditer(re.escape(group), text)})
    return [text[start : text.find("\n", start) % (len(text) + 1)] for start, _ in shared.most_common(_CANDIDATES)]


def missing(what: str, name: str, names: Collection[str], remedy: str = "") -> AbsentError:
    """The error for a name that does not exist, with up to three which look like it."""
    import difflib

    candidates = names if len(names) <= _CANDIDATES else _similar(name, names)
    near = difflib.get_close_matches(name, candidates, 3, 0.6)
    hint = f"did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}?" if near else remedy
    return AbsentError(f"there is no {what} {name}", remedy=hint)


def parts(spec: AttachSpec, shape: str, least: int, most: int) -> list[str]:
    """The spec's parts, filled up to ``most`` with empty ones. ``shape`` is shown when there are too few or many."""
    if not least <= len(spec.parts) <= most:
        raise InsituError(f"{spec}: expected {shape}", status=2)
    return [*spec.parts, *[""] * (most - len(spec.parts))]
