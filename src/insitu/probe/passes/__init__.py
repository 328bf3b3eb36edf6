"""The compiler's passes over the tree, in their order: from a script's text to typed clauses.

What follows them is in compile.py: maps and records are laid out, the clauses lowered to LLVM IR and compiled to BPF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from insitu.errors import InsituError
from insitu.probe.passes.target import finds_target, target_of

if TYPE_CHECKING:
    from insitu.probe import ast
    from insitu.probe.options import Options
    from insitu.probe.passes.attach import Clause
    from insitu.probe.passes.check.checker import Checker
    from insitu.probe.providers.base import Context
    from insitu.probe.source import Source

__all__ = ["PASSES", "STAGES", "Pass", "Unit", "bounded_nesting", "run_outline_passes", "run_passes"]


class Unit:
    """A script on its way through the passes."""

    def __init__(self, source: Source, options: Options, context: Context) -> None:
        self.source, self.options, self.context = source, options, context
        options.target = target_of(source, options, context)
        context.follows = options.target in ("command", "tree")
        self.program: ast.Program  # from the first pass on
        self.clauses: list[Clause] = []
        self.warnings: list[str] = []  # of attach points that are not there
        self.checker: Checker  # from the last pass on


class Pass(Struct, frozen=True):
    """``cached``: what the pass results in is in the cache of compiled programs.

    ``from_outline``: the pass needs no more of a script than its outline, which is there as well.
    """

    name: str
    summary: str
    run: Callable[[Unit], None]
    cached: bool = False
    from_outline: bool = False


# Each imports its module when it runs: a start from the cache does without some.


def _parse(unit: Unit) -> None:
    from insitu.probe.bpftrace.preprocess import Includes
    from insitu.probe.bpftrace.script_parser import parse

    includes = Includes(unit.options.include_folders, unit.options.includes)
    unit.program = parse(unit.source, unit.options.parameters, includes)


def _config(unit: Unit) -> None:
    from insitu.probe.source import ScriptError, Span

    options, context = unit.options, unit.context
    try:
        options.apply_config(unit.program.config)
    except InsituError as error:
        at = unit.source.text.find("config")
        raise ScriptError(str(error), unit.source, Span(at, at + 6)) from None
    options.one_process = context.one_process and not context.follows and not finds_target(unit.source)
    context.max_probes = options.max_probes
    context.trials = options.trials
    context.missing_probes = options.missing_probes
    context.unsafe = options.unsafe


def _target(unit: Unit) -> None:
    if unit.context.follows:
        from insitu.probe.passes.target import follow

        follow(unit.program, unit.source, unit.options)


def _macros(unit: Unit) -> None:
    from insitu.probe.passes.macros import expand_macros

    expand_macros(unit.program, unit.source)


def _library(unit: Unit) -> None:
    from insitu.probe.passes.library import expand_library

    expand_library(unit.program, unit.source, unit.options)


def _scopes(unit: Unit) -> None:
    from insitu.probe.passes.scopes import resolve_scopes

    resolve_scopes(unit.program, unit.source)


def _functions(unit: Unit) -> None:
    from insitu.probe.passes.functions import expand_functions

    expand_functions(unit.program, unit.source)


def _attach(unit: Unit) -> None:
    from insitu.probe.passes.attach import resolve_attach_points

    unit.clauses, unit.warnings = resolve_attach_points(unit.program, unit.source, unit.context)


def _types(unit: Unit) -> None:
    from insitu.kernel.bpf_map import takes_long_keys
    from insitu.probe.passes.check.walk import check
    from insitu.probe.type_resolver import Structures

    unit.options.fit_kernel(long_keys=takes_long_keys())
    structures = Structures(unit.source, unit.program.structures, unit.context)
    unit.checker = check(unit.program, unit.clauses, unit.source, structures, unit.options, unit.context)


PASSES = (
    Pass("parse", "read the text, with #include, #define and imports, into a tree", _parse),
    Pass("config", "apply the script's config block to the options", _config, from_outline=True),
    Pass("target", "restrict a ready program to a command and its descendants", _target),
    Pass("macros", "replace calls of macros by copies of their bodies", _macros),
    Pass("library", "replace calls of functions that are written in the language itself", _library),
    Pass("scopes", "find the variable that each name means", _scopes),
    Pass("functions", "replace calls of the script's functions by copies of their bodies", _functions),
    Pass("attach", "expand attach points, and make clauses of the probes", _attach, from_outline=True),
    Pass("types", "give each expression its type, and report type errors", _types, cached=True),
)
# What --dump shows: the tree after a pass (called ast after the first), then what is made of it.
STAGES = ("ast", *(each.name for each in PASSES[1:]), "ir", "insns", "xlated", "verifier")


@contextmanager
def bounded_nesting(unit: Unit) -> Iterator[None]:
    """Report a tree that is too deep to be walked: expanded macros and functions may nest in each other.

    :raises ScriptError: naming the probe, function or macro that nests most.
    """
    try:
        yield
    except RecursionError:
        from insitu.probe.ast import levels
        from insitu.probe.source import ScriptError

        program = unit.program
        deepest = max([*program.probes, *program.functions, *program.macros], key=levels)
        message = "this is nested too deeply, the macros and functions in it expanded"
        raise ScriptError(message, unit.source, deepest.span, remedy="assign parts of it to variables") from None


def run_passes(unit: Unit, *, cached: bool | None = None, last: str = "") -> Unit:
    """Run all passes, those whose result the cache holds, or the others; at most up to the one named ``last``.

    :raises ScriptError: at the first error in the script.
    """
    for each in PASSES:
        if cached is None or each.cached == cached:
            with bounded_nesting(unit):
                each.run(unit)
        if each.name == last:
            break
    return unit


def run_outline_passes(unit: Unit) -> Unit:
    """Run the passes that a program made of an outline goes through, which may have its clauses already.

    :raises ScriptError: for an attach point that does not exist here.
    """
    for each in PASSES:
        if each.from_outline and not (each.name == "attach" and unit.clauses):
            each.run(unit)
    return unit
