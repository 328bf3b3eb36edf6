"""A script's outline: its settings, its attach points, and the names that each probe's body mentions.

It is all that a start from the cache of compiled programs needs of the script, which is not parsed then.
"""

from __future__ import annotations

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.passes.attach import Clause
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AttachPoint, ProgramKind
from insitu.probe.providers.support.matching import has_wildcard
from insitu.probe.source import Source, Span

__all__ = ["Outline", "ProbeOutline", "clauses_of", "outline_of", "program_of"]


class ProbeOutline(Struct):
    """``attach_points``: of each, its parts, where it begins and ends in the script, whether it follows ``||``."""

    attach_points: list[tuple[tuple[str, ...], int, int, bool]]
    names: list[str]


class ClauseOutline(Struct):
    """A clause of one point, which is the same at each start of this kernel. ``point``: kind, name, target, function
    and cookie."""

    point: tuple[str, str, str, str, int]
    kind: ProgramKind
    arguments_key: str
    tells_points_apart: bool
    alternative: bool


class Outline(Struct):
    """``config``: the settings of the script's config block. ``clauses``: of all probes, if all depend on nothing
    but the kernel itself, whose types are not read then."""

    config: dict[str, str | int]
    probes: list[ProbeOutline]
    clauses: list[ClauseOutline] = []


def outline_of(program: ast.Program, source: Source, clauses: list[Clause]) -> Outline | None:
    """The outline of a program that has passed all passes before its types.

    None where other files are part of it, or where it has warnings that each start repeats.
    """
    if source.has_imports or "#include" in source.text or program.warnings:
        return None
    probes = [_probe_outline(probe) for probe in program.probes]
    fixed = len(clauses) == len(probes) and all(map(_is_fixed, clauses))
    return Outline(program.config, probes, [_clause_outline(each) for each in clauses] if fixed else [])


def _is_fixed(clause: Clause) -> bool:
    """Whether a clause is of one raw tracepoint of the kernel's own, or run by us."""
    if clause.absent or len(clause.points) > 1 or len(clause.probe.attach_points) > 1:  # a missing one is warned of
        return False
    written = "".join(part for text in clause.probe.attach_points for part in text.parts)
    (point,) = clause.points
    own = point.kind == "rawtracepoint" and point.target == "vmlinux" and not has_wildcard(written)
    return own or (clause.provider.traits.run_by_us and point.detail is None)


def _clause_outline(clause: Clause) -> ClauseOutline:
    (at,) = clause.points
    point = (at.kind, at.name, at.target, at.function, at.cookie)
    return ClauseOutline(point, clause.kind, clause.arguments_key, clause.tells_points_apart, clause.alternative)


def clauses_of(outline: Outline, program: ast.Program) -> list[Clause]:
    """The clauses that a program made of an outline has; none where they are to be found out."""
    return [
        Clause(
            probe,
            PROVIDERS[each.point[0]],
            [AttachPoint(*each.point[:4], cookie=each.point[4])],
            each.kind,
            None,
            each.tells_points_apart,
            each.alternative,
            arguments_key=each.arguments_key,
        )
        for probe, each in zip(program.probes, outline.clauses, strict=False)
    ]


def _probe_outline(probe: ast.Probe) -> ProbeOutline:
    nodes = ast.walk([probe.predicate, probe.body])
    names = {node.name for node in nodes if isinstance(node, ast.Identifier | ast.Call)}
    places = [(text.parts, text.span.start, text.span.end, text.instead) for text in probe.attach_points]
    return ProbeOutline(places, sorted(names))


def program_of(outline: Outline) -> ast.Program:
    """A program with that outline."""
    nowhere = Span(0, 0)
    program = ast.Program(nowhere, [], [], [], [], outline.config)
    for probe in outline.probes:
        texts = [ast.AttachText(Span(start, end), parts, more) for parts, start, end, more in probe.attach_points]
        body: list[ast.Statement] = [
            ast.ExpressionStatement(nowhere, ast.Identifier(nowhere, name)) for name in probe.names
        ]
        program.probes.append(ast.Probe(nowhere, texts, None, ast.Block(nowhere, body)))
    return program
