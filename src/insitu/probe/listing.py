"""Lists probes: ``insitu trace -l PATTERN``, with arguments for -lv, and lists what a struct holds."""

from __future__ import annotations

import fnmatch
import re

from insitu import messages
from insitu.errors import InsituError
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import Argument, AttachPoint, AttachSpec, Context, DataLocation, Primitive, Provider
from insitu.terminal_text import print_line

__all__ = ["list_probes"]


def list_probes(pattern: str, *, verbose: bool, pid: int | None) -> int:
    """Print what matches, one a line; with ``verbose`` each one's arguments below it. Exit status 1 for nothing.

    The pattern may be a list of patterns, separated by commas.
    """
    patterns = _patterns(pattern)
    if len(patterns) > 1:
        return min([list_probes(each, verbose=verbose, pid=pid) for each in patterns])
    context = Context(pid=pid)
    found = 0
    try:
        tagged = pattern.split()
        if len(tagged) == 2 and tagged[0] in ("struct", "union", "enum"):
            return _list_types(tagged[0], tagged[1], context)
        kind, *parts = _split(pattern)
        word = pattern if _is_word(pattern) else ""
        kinds = fnmatch.filter(PROVIDERS, kind) if "*" in kind else [kind]
        if "*" not in kind and kind not in PROVIDERS:
            from insitu.errors import nearest

            raise InsituError(f"unknown probe kind {kind!r}{nearest(kind, PROVIDERS)}", status=2)
        seen: set[int] = set()
        for name in kinds:
            provider = PROVIDERS[name]
            if id(provider) in seen and "*" in kind:
                continue
            seen.add(id(provider))
            found += _list_kind(provider, name, parts, context, word=word, verbose=verbose, alone=len(kinds) == 1)
    finally:
        context.close()
    return 0 if found else _nothing(f"no probe matches {pattern}")


def _patterns(text: str) -> list[str]:
    """The patterns of a list; commas in quotes, as in names of C++, do not separate."""
    pieces = re.findall(r'(?:"[^"]*"?|[^",])+', text)
    return [piece.strip() for piece in pieces if piece.strip()]


def _nothing(text: str) -> int:
    messages.error(text)
    return 1


def _split(pattern: str) -> list[str]:
    """The parts of a pattern; a pattern without a colon is searched for in the names of all kinds."""
    return ["*"] if _is_word(pattern) else pattern.split(":")


def _is_word(pattern: str) -> bool:
    return ":" not in pattern and pattern not in PROVIDERS and "*" not in pattern


def _list_kind(
    provider: Provider, name: str, parts: list[str], context: Context, *, word: str, verbose: bool, alone: bool
) -> int:
    try:
        points = provider.listing(AttachSpec(name, tuple(parts)), context)
    except InsituError:
        if alone:
            raise
        return 0  # one of many kinds, and this kernel does not have it
    points = [point for point in points if word in point.name]
    for point in points:
        print_line(point.name)
        if verbose:
            for argument in _arguments(provider, point, context):
                print(f"    {declaration(argument)}")
    return len(points)


def _arguments(provider: Provider, point: AttachPoint, context: Context) -> list[Argument]:
    try:
        return provider.arguments(point, context) or []
    except InsituError as error:
        messages.note(f"{point.name}: {error}")
        return []


def declaration(argument: Argument) -> str:
    """An argument as C declares it, or as the kernel's format files do where C has no syntax for it."""
    if isinstance(argument.type, Primitive):
        if isinstance(argument.load, DataLocation):
            where = "__rel_loc" if argument.load.relative else "__data_loc"
            return f"{where} {argument.type.declaration}[] {argument.name}"
        suffix = "" if argument.type.count is None else f"[{argument.type.count or ''}]"
        return f"{argument.type.declaration} {argument.name}{suffix}"
    return argument.type.declaration(argument.name)


def _list_types(tag: str, pattern: str, context: Context) -> int:
    from insitu.symbols.btf import Kind

    kinds = {"struct": [Kind.STRUCT], "union": [Kind.UNION], "enum": [Kind.ENUM, Kind.ENUM64]}[tag]
    found = list(context.btf.matching(pattern, *kinds))
    for each in found:
        print(each.definition() if len(found) == 1 else each.declaration())
    return 0 if found else _nothing(f"no {tag} {pattern} in the kernel's types")
