"""A script's outline: its settings, its attach points, and the names that each probe's body mentions.

It is all that a start from the cache of compiled programs needs of the script, which is not parsed then.
"""

from __future__ import annotations

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.source import Source, Span

__all__ = ["Outline", "ProbeOutline", "outline_of", "program_of"]


class ProbeOutline(Struct):
    """``attach_points``: of each, its parts, where it begins and ends in the script, whether it follows ``||``."""

    attach_points: list[tuple[tuple[str, ...], int, int, bool]]
    names: list[str]


class Outline(Struct):
    """``config``: the settings of the script's config block."""

    config: dict[str, str | int]
    probes: list[ProbeOutline]


def outline_of(program: ast.Program, source: Source) -> Outline | None:
    """The outline of a program that has passed all passes before its types.

    None where other files are part of it, or where it has warnings that each start repeats.
    """
    if source.has_imports or "#include" in source.text or program.warnings:
        return None
    return Outline(program.config, [_probe_outline(probe) for probe in program.probes])


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
