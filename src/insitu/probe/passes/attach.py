"""Attach points: from those in the script to concrete ones, grouped by the program that serves them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from insitu.errors import InsituError, nearest
from insitu.probe import ast
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.arguments import Argument
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind, Provider
from insitu.probe.providers.support.matching import as_written
from insitu.probe.source import ScriptError, Source

__all__ = ["Clause", "expand", "located", "resolve_attach_points"]


class Clause(Struct):
    """A probe's body, its own copy, and the points of equal arguments that one program can serve.

    ``tells_points_apart``: the body asks which point it runs at.
    """

    probe: ast.Probe
    provider: Provider
    points: list[AttachPoint]
    kind: ProgramKind
    arguments: list[Argument] | None
    tells_points_apart: bool
    alternative: bool = False  # one of several attach points of the script's probe
    absent: bool = False  # none of them exists here: compiled, but attached nowhere
    arguments_key: str = ""  # what tells its arguments from others, where the cache has that in their place

    def __post_init__(self) -> None:
        if self.arguments is not None:
            self.arguments_key = repr(self.arguments)


def resolve_attach_points(program: ast.Program, source: Source, context: Context) -> tuple[list[Clause], list[str]]:
    """The clauses of all probes, points numbered through by their cookies, in the script's order; and warnings.

    Of a list of attach points, those that do not exist here are skipped with a warning: scripts name the functions
    of several kernel versions.

    :raises ScriptError: for an unknown kind, and for what a provider refuses.
    :raises InsituError: for more points than BPFTRACE_MAX_PROBES.
    """
    clauses: list[Clause] = []
    warnings: list[str] = []
    number = count = 0
    for probe in program.probes:
        probe.attach_points = [text for text in probe.attach_points if not _is_left_out(text, context)]
        if not probe.attach_points:
            continue
        nodes = ast.walk([probe.predicate, probe.body])
        uses = {node.name for node in nodes if isinstance(node, ast.Identifier | ast.Call)}
        found, missing = _found_and_missing(probe, source, context)
        absent = bool(missing) and not found
        if context.probe_filter and not absent:
            found = [each for each in found if _passes(context.probe_filter, *each)]
            if not found:
                continue
        count += len(found)
        may_miss = context.missing_probes in ("warn", "ignore") or (
            not context.missing_probes and sum(not text.instead for text in probe.attach_points) > 1
        )
        if missing and not may_miss:
            if source.built_in:  # its user has not written the line
                raise InsituError(f"{source.name}: {missing[0].plain}", remedy=missing[0].remedy)
            raise missing[0]
        warnings += [f"{error} (skipped)" for error in missing]
        if absent:
            text = probe.attach_points[0]
            provider = PROVIDERS[text.parts[0]]
            point = AttachPoint(
                text.parts[0], str(text), function=text.parts[-1], in_binary=provider.traits.in_binary
            )
            found = [(provider, point)]
        if count > context.max_probes:
            continue  # the rest is only counted
        for provider, points in [(found[0][0], [found[0][1]])] if absent else _grouped(found, uses, context):
            numbered = [replace(point, cookie=number + i + 1) for i, point in enumerate(points)]
            number += len(points)
            try:
                kind = provider.program(numbered[0], context)
                walks = kind.context == "iterator"
                wanted = walks or _reads_arguments(provider, uses)
                arguments = provider.arguments(numbered[0], context) if wanted else None
            except InsituError as error:
                if absent:
                    continue
                raise located(error, source, probe.attach_points[0]) from None
            copied = probe if len(found) == 1 else _copy_of(probe)
            if walks:
                _name_context_args(copied)
            clause = Clause(copied, provider, numbered, kind, arguments, bool(uses & {"probe", "func"}))
            clause.alternative = may_miss
            clause.absent = absent
            clauses.append(clause)
    if count > context.max_probes:
        raise InsituError(
            f"can't attach to {count} probes because it exceeds the current limit of {context.max_probes} probes",
            remedy="raise the limit by BPFTRACE_MAX_PROBES or max_probes in the script's config",
        )
    if context.trials and not any(clause.points[0].kind == context.trials for clause in clauses):
        raise InsituError(f"the script has no {context.trials} probes", status=2)
    if not clauses and program.probes and not context.probe_filter:
        raise InsituError(
            "the script has test and bench probes only", remedy="run it with --test or --bench", status=2
        )
    if not clauses and context.probe_filter:
        raise InsituError(f"--probe-filter {context.probe_filter} leaves no probe", status=2)
    return clauses, warnings


def _is_left_out(text: ast.AttachText, context: Context) -> bool:
    kind = _kind(text.parts[0])
    return kind in PROVIDERS and PROVIDERS[kind].traits.on_request and kind != context.trials


def _found_and_missing(
    probe: ast.Probe, source: Source, context: Context
) -> tuple[list[tuple[Provider, AttachPoint]], list[ScriptError]]:
    """What a probe's attach points mean here, and an error for each that does not exist: one for all joined by ||."""
    found: list[tuple[Provider, AttachPoint]] = []
    missing: list[ScriptError] = []
    followed = [*(text.instead for text in probe.attach_points[1:]), False]
    is_found = False
    for text, has_alternative in zip(probe.attach_points, followed, strict=True):
        text.parts = (_kind(text.parts[0]), *text.parts[1:])
        if text.instead and is_found:
            continue
        is_found = True
        try:
            found += expand(text, source, context)
        except ScriptError:
            raise
        except InsituError as error:
            is_found = False
            if not (isinstance(error, AbsentError) or text.instead or has_alternative):
                raise located(error, source, text) from None
            plain = f"{missing.pop().plain}; {error.message}" if text.instead else error.message
            missing.append(ScriptError(plain, source, text.span, remedy=error.remedy))
        else:
            if text.instead:
                missing.pop()
    return found, missing


def _passes(pattern: str, provider: Provider, point: AttachPoint) -> bool:
    """Whether --probe-filter leaves a point: what the runtime runs itself (begin, end) is not filtered."""
    return provider.traits.run_by_us or re.search(pattern, point.name) is not None


def _copy_of(probe: ast.Probe) -> ast.Probe:
    import copy

    return copy.deepcopy(probe)


def _name_context_args(probe: ast.Probe) -> None:
    """An iterator's ``ctx->task`` is what other kinds call ``args.task``."""
    for node in ast.walk([probe.predicate, probe.body]):
        if isinstance(node, ast.Identifier) and node.name == "ctx":
            node.name = "args"


def _kind(written: str) -> str:
    """A probe kind's name in the case that is known: case is free, except where it tells aliases apart (u, U)."""
    return written if written in PROVIDERS or written.lower() not in PROVIDERS else written.lower()


def expand(text: ast.AttachText, source: Source, context: Context) -> list[tuple[Provider, AttachPoint]]:
    """The points that one attach point of the script means, each with who provides it.

    :raises ScriptError: for an unknown kind.
    :raises InsituError: for what a provider refuses, of which AbsentError where nothing matches.
    """
    kind = text.parts[0]
    line, column = source.line_column(text.span.start)
    kinds: Iterable[str] = [kind]
    if "*" in kind:
        import fnmatch

        kinds = fnmatch.filter(PROVIDERS, kind)
        if not kinds:
            raise ScriptError(f"no probe kind matches {kind!r}", source, text.span)
    elif kind not in PROVIDERS:
        raise ScriptError(f"unknown probe kind {kind!r}{nearest(kind, PROVIDERS)}", source, text.span)
    points: list[tuple[Provider, AttachPoint]] = []
    for name in kinds:
        provider = PROVIDERS[name]
        expanded = provider.expand(AttachSpec(name, text.parts[1:], line, column), context)
        path = text.parts[1] if len(text.parts) > 1 and provider.traits.in_binary else ""
        points += [(provider, as_written(point, path)) for point in expanded]
    return points


def located(error: InsituError, source: Source, text: ast.AttachText) -> ScriptError:
    """The error with the location of its attach point."""
    return ScriptError(error.message, source, text.span, remedy=error.remedy)


def _reads_arguments(provider: Provider, uses: set[str]) -> bool:
    """Whether a body that uses these names asks for Provider.arguments()."""
    if uses & {"args", "retval"}:
        return True
    return provider.traits.numbered == "operands" and any(re.fullmatch(r"arg\d+", name) for name in uses)


def _grouped(
    found: list[tuple[Provider, AttachPoint]], uses: set[str], context: Context
) -> list[tuple[Provider, list[AttachPoint]]]:
    """Points that one program can serve, together; the order of first appearance is kept."""
    groups: dict[object, tuple[Provider, list[AttachPoint]]] = {}
    for index, (provider, point) in enumerate(found):
        kind = provider.program(point, context)
        key: object = index
        if kind.shared:
            by_arguments = _reads_arguments(provider, uses)
            arguments = tuple(provider.arguments(point, context) or ()) if by_arguments else ()
            key = (id(provider), point.kind, kind, arguments)
        groups.setdefault(key, (provider, []))[1].append(point)
    return list(groups.values())
