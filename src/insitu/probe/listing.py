"""Lists probes: those of a pattern (``insitu trace -l PATTERN``) or of a script, and what a struct holds."""

from __future__ import annotations

import fnmatch
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from insitu import messages
from insitu.errors import InsituError, nearest
from insitu.probe.prototype_lines import LinesOfSets, line
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.arguments import Argument, DataLocation, Primitive
from insitu.probe.providers.base import SOURCE_KINDS, AttachPoint, AttachSpec, Context, OfFunctions, Provider
from insitu.probe.providers.support.matching import as_written, has_wildcard, select
from insitu.terminal_text import TerminalStream, printable

if TYPE_CHECKING:
    from insitu.probe.options import Options
    from insitu.probe.source import Source
    from insitu.symbols.btf import Type

__all__ = ["list_probes", "list_script"]

_AT_ONCE = 1024  # probes that are written at once
# Attach points, with who provides them.
Found = Iterable[tuple[Provider, Sequence[AttachPoint]]]


def list_probes(pattern: str, *, verbose: bool, pid: int | None) -> int:
    """Print what matches, one a line; with ``verbose`` each one's arguments below it. Exit status 1 for nothing.

    The pattern may be a list of patterns, separated by commas. With a ``pid``, a pattern that names no kind is for
    the probes in that process's program and libraries.
    """
    patterns = _patterns(pattern)
    if len(patterns) > 1:
        return min([list_probes(each, verbose=verbose, pid=pid) for each in patterns])
    context = Context(pid=pid)
    try:
        tagged = pattern.split()
        if len(tagged) == 2 and tagged[0] in ("struct", "union", "enum"):
            return _list_types(tagged[0], tagged[1], context)
        search = _searched(pattern, context)
        if _print(_matching(search, context), context, verbose=verbose):
            return 0
        return _nothing(f"no probe matches {pattern}", _reason(search, context))
    finally:
        context.close()


def _patterns(text: str) -> list[str]:
    """The patterns of a list; commas in quotes, as in names of C++, do not separate."""
    pieces = re.findall(r'(?:"[^"]*"?|[^",])+', text)
    return [piece.strip() for piece in pieces if piece.strip()]


def list_script(source: Source, options: Options, *, verbose: bool, pid: int | None) -> int:
    """Print the probes that a script would be attached to, in its order. Exit status 1 for none.

    Raises ScriptError for an invalid script; attach points that do not exist or cannot be probed are warned of.
    """
    from insitu.probe.passes import Unit, run_passes
    from insitu.probe.passes.attach import expand, located
    from insitu.probe.source import ScriptError

    context = Context(pid=pid)
    try:
        unit = run_passes(Unit(source, options, context), last="config")
        found: list[tuple[Provider, Sequence[AttachPoint]]] = []
        for text in (text for probe in unit.program.probes for text in probe.attach_points):
            try:
                found += [(provider, [point]) for provider, point in expand(text, source, context)]
            except ScriptError:
                raise
            except InsituError as error:
                messages.warning(f"{located(error, source, text)} (not listed)")
        count = _print(found, context, verbose=verbose)
    finally:
        context.close()
    return 0 if count else 1


def _print(found: Found, context: Context, *, verbose: bool) -> int:
    """Print attach points, with ``verbose`` their arguments; returns how many."""
    shown = printable if isinstance(sys.stdout, TerminalStream) else str
    arguments = _Arguments(context)
    count = 0
    for provider, points in found:
        count += len(points)
        below = arguments.below(provider, points) if verbose else itertools.repeat("")
        pieces = (f"{shown(point.name)}\n{lines}" for point, lines in zip(points, below, strict=False))
        while several := list(itertools.islice(pieces, _AT_ONCE)):
            sys.stdout.write("".join(several))
    return count


def _nothing(text: str, remedy: str = "") -> int:
    messages.error(text, remedy)
    return 1


def _reason(search: _Search, context: Context) -> str:
    """Why what a single kind was asked for does not exist, or what is similar."""
    if search.wanted is not None or has_wildcard("".join(search.parts)):
        return ""
    try:
        PROVIDERS[search.kinds[0]].expand(AttachSpec(search.kinds[0], search.parts), context)
    except InsituError as error:
        return str(error)
    return ""


# What a pattern asks for


class _Search(Struct):
    """Kinds, what each is to list, and which of the names it finds are wanted."""

    kinds: Sequence[str]
    parts: tuple[str, ...] = ()
    wanted: Callable[[str], bool] | None = None

    @property
    def named(self) -> bool:
        """Whether a single kind was asked for, whose errors are to be reported."""
        return len(self.kinds) == 1


def _searched(pattern: str, context: Context) -> _Search:
    kind, *parts = pattern.split(":")
    before, at, source = kind.partition("@")
    if at and before in SOURCE_KINDS:
        kind, parts = before, [at + source, *parts]
    if pattern in PROVIDERS:
        return _Search([pattern])
    if has_wildcard(kind) or not parts:
        text = parts[0] if len(parts) == 1 else "" if parts else pattern
        kinds = fnmatch.filter(_kinds(context), kind) if parts else _kinds(context)
        everything = ("*", "*") if context.pid is not None else ()
        if len(parts) > 1:
            return _Search(kinds, tuple(parts))
        return _Search(kinds, everything, _named(text) if text != "*" else None)
    if kind not in PROVIDERS:
        raise InsituError(f"unknown probe kind {kind!r}{nearest(kind, PROVIDERS)}", status=2)
    return _Search([kind], tuple(parts))


def _kinds(context: Context) -> list[str]:
    """The kinds that are listed unless one is named: no aliases, none at the return of what another lists."""
    kinds = [name for name, provider in PROVIDERS.items() if name == provider.names[0] and provider.traits.entry]
    return kinds if context.pid is None else [name for name in kinds if PROVIDERS[name].traits.in_binary]


def _named(text: str) -> Callable[[str], bool]:
    """Whether a probe's name, without its kind, has the text in it, or is matched by it or in its last part."""
    if not has_wildcard(text):
        return lambda name: text in name

    def matches(name: str) -> bool:
        rest = name.partition(":")[2].rstrip(":") or name
        return bool(select(text, (rest, rest.rpartition(":")[2])))

    return matches


def _matching(search: _Search, context: Context) -> Iterator[tuple[Provider, Sequence[AttachPoint]]]:
    for kind in search.kinds:
        provider = PROVIDERS[kind]
        try:
            points = provider.listing(AttachSpec(kind, search.parts), context)
        except InsituError:
            if search.named:
                raise
            continue  # one of many kinds, and this kernel does not have it, or it has no such names
        path = search.parts[0] if search.named and search.parts and provider.traits.in_binary else ""
        if search.wanted is not None:
            points = [point for point in points if search.wanted(point.name)]
        yield provider, [as_written(point, path) for point in points] if path else points


# Arguments


class _Arguments:
    """Attach points' arguments as text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._types: dict[Type, str] = {}

    def below(self, provider: Provider, points: Sequence[AttachPoint]) -> Iterator[str]:
        """The lines below each point's name."""
        if not isinstance(provider, OfFunctions):
            yield from (self._lines(provider, point) for point in points)
            return
        lines = LinesOfSets(provider)
        pairs = zip(points, provider.prototypes(points, self._context), strict=True)
        while several := list(itertools.islice(pairs, _AT_ONCE)):
            lines.write({found for _, found in several if found})
            for point, found in several:
                text = lines[found[0]][found[1]] if found else None
                yield self._lines(provider, point) if text is None else text

    def _lines(self, provider: Provider, point: AttachPoint) -> str:
        try:
            found = provider.arguments(point, self._context)
        except InsituError as error:
            messages.note(f"{point.name}: {error}")
            return ""
        return "".join([self._line(each) for each in found or ()])

    def _line(self, argument: Argument) -> str:
        kind = argument.type
        if isinstance(kind, Primitive):
            return _of_a_record(kind, argument)
        text = self._types.get(kind)
        if text is None:
            text = self._types[kind] = kind.declaration()
        return line(text, argument.name)


def _of_a_record(kind: Primitive, argument: Argument) -> str:
    if isinstance(argument.load, DataLocation):
        where = "__rel_loc" if argument.load.relative else "__data_loc"
        return line(f"{where} {kind.declaration}[]", argument.name)
    suffix = "" if kind.count is None else f"[{kind.count or ''}]"
    return line(kind.declaration, f"{argument.name}{suffix}")


def _list_types(tag: str, pattern: str, context: Context) -> int:
    from insitu.symbols.btf import Kind

    kinds = {"struct": [Kind.STRUCT], "union": [Kind.UNION], "enum": [Kind.ENUM, Kind.ENUM64]}[tag]
    found = list(context.btf.matching(pattern, *kinds))
    for each in found:
        print(each.definition() if len(found) == 1 else each.declaration())
    return 0 if found else _nothing(f"no {tag} {pattern} in the kernel's types")
