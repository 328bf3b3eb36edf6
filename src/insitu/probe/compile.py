"""The compiler: a script's text to programs, maps and records that are ready to be loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct, field

from insitu import messages
from insitu.probe.layout import Layout
from insitu.probe.options import Options
from insitu.probe.passes import Unit, bounded_nesting, run_outline_passes, run_passes
from insitu.probe.passes.attach import Clause
from insitu.probe.providers.base import AttachPoint, Context, ProgramKind
from insitu.probe.source import Source

if TYPE_CHECKING:
    from insitu.probe.cache import StoredProgram
    from insitu.probe.codegen.object import Section

__all__ = ["Compiled", "CompiledProgram", "compile_script", "lower"]


_COMPILED_PER_SECOND = 4_000_000  # characters of LLVM IR
_LONG = 3  # seconds


class CompiledProgram(Struct):
    """One BPF program and its points. Its code has indexes of maps for descriptors (codegen.emitter.Marker)."""

    name: str
    kind: ProgramKind
    points: list[AttachPoint]
    code: bytes
    lines: tuple[tuple[int, int, int], ...]
    functions: tuple[tuple[int, int], ...]
    line_info: bytes
    per_point: bool  # load it once per point: it contains the point's cookie
    alternative: bool = False
    absent: bool = False
    further: list[CompiledProgram] = field(default_factory=list)  # parts of a body that is too long for one
    parts_map: int = -1  # index of the map that leads to them


class Compiled(Struct):
    """A compiled script."""

    programs: list[CompiledProgram]
    layout: Layout
    btf: bytes
    print_maps: bool = True
    warnings: list[str] = field(default_factory=list)
    tells_missing: bool = True  # whether attach points that cannot be attached cause a warning
    demangles: bool = True
    shows_lines: bool = True
    trailer: str = ""
    max_strlen: int = 0
    newer_form: bool = False


def compile_script(source: Source, options: Options, context: Context, *, cached: bool = False) -> Compiled:
    """A script's programs; with ``cached``, code made by an earlier run is used, and kept for a later one.

    :raises ScriptError: at the first error in it.
    """
    unit = Unit(source, options, context)
    if not cached:
        compiled = _generate(run_passes(unit))
    else:
        from insitu.probe import cache
        from insitu.probe.providers.support.known_places import KnownPlaces

        context.known_places = KnownPlaces(cache)
        outline_key = cache.outline_key(source, options)
        outline = cache.load_outline(outline_key)
        if outline is not None:
            from insitu.probe.outline import clauses_of, program_of

            unit.program = program_of(outline)
            if not context.probe_filter and not os.environ.get("BPFTRACE_BTF"):
                unit.clauses = clauses_of(outline, unit.program)
            run_outline_passes(unit)
        found = _from_cache(source, options, unit.clauses) if outline is not None else None
        if found is None:
            run_passes(unit, cached=False)
            _keep_outline(outline_key, unit)
            found = _from_cache(source, options, unit.clauses) or _compiled_and_kept(unit)
        context.known_places.keep()
        compiled = found
    compiled.tells_missing = options.missing_probes != "ignore"
    compiled.warnings = unit.program.warnings + (unit.warnings if compiled.tells_missing else [])
    compiled.demangles, compiled.shows_lines = options.cpp_demangle, options.show_debug_info
    compiled.trailer, compiled.max_strlen = options.str_trunc_trailer, options.max_strlen
    compiled.newer_form = options.output_version == "0.24"
    return compiled


def _keep_outline(key: str, unit: Unit) -> None:
    from insitu.probe import cache
    from insitu.probe.outline import outline_of

    outline = outline_of(unit.program, unit.source, unit.clauses)
    if outline is not None:
        cache.store_outline(key, outline)


def _compiled_and_kept(unit: Unit) -> Compiled:
    from insitu.probe import cache

    key = cache.entry_key(unit.source, unit.options, unit.clauses)
    compiled = _generate(run_passes(unit, cached=True))
    kept = [_to_stored(each) for each in compiled.programs]
    cache.store_entry(key, kept, compiled.layout, compiled.btf, compiled.print_maps)
    return compiled


def _from_cache(source: Source, options: Options, clauses: list[Clause]) -> Compiled | None:
    """What an earlier run compiled the same script to."""
    from insitu.probe import cache

    entry = cache.load_entry(cache.entry_key(source, options, clauses))
    if entry is None or len(entry.programs) != len(clauses):
        return None
    programs = [_from_stored(clause, stored) for clause, stored in zip(clauses, entry.programs, strict=True)]
    return Compiled(programs, entry.layout, entry.btf, entry.print_maps)


def _to_stored(program: CompiledProgram) -> StoredProgram:
    from insitu.probe.cache import StoredProgram

    return StoredProgram(
        program.code,
        program.lines,
        program.functions,
        program.line_info,
        program.per_point,
        program.parts_map,
        [_to_stored(part) for part in program.further],
    )


def _from_stored(clause: Clause, stored: StoredProgram) -> CompiledProgram:
    return CompiledProgram(
        _program_name(clause),
        clause.kind,
        clause.points,
        stored.code,
        stored.lines,
        stored.functions,
        stored.line_info,
        stored.per_point,
        clause.alternative,
        clause.absent,
        [_from_stored(clause, part) for part in stored.further],
        stored.parts_map,
    )


def _generate(unit: Unit) -> Compiled:
    with bounded_nesting(unit):
        text, layout, parts = lower(unit)
    seconds = len(text) // _COMPILED_PER_SECOND
    if seconds >= _LONG:
        messages.note(f"{unit.source.name} is large: compiling it takes some {seconds} seconds")
    from insitu.probe.codegen.object import compile_ir

    code = compile_ir(text)
    programs = []
    for index, clause in enumerate(unit.clauses):
        per_point = clause.tells_points_apart and not (clause.kind.cookies and len(clause.points) > 1)

        def made(section: Section, clause: Clause = clause, per_point: bool = per_point) -> CompiledProgram:
            return CompiledProgram(
                _program_name(clause),
                clause.kind,
                clause.points,
                section.code,
                section.lines,
                section.functions,
                section.line_info,
                per_point,
                clause.alternative,
                clause.absent,
            )

        program = made(code.sections[f"p{index}"])
        program.further = [made(code.sections[f"p{index}_{number}"]) for number in range(1, parts[index])]
        program.parts_map = layout.parts_map(index) if program.further else -1
        programs.append(program)
    return Compiled(programs, layout, code.btf, unit.checker.options.print_maps_on_exit)


def _program_name(clause: Clause) -> str:
    point = clause.points[0]
    return point.function or point.name.replace(":", "_")


def lower(unit: Unit) -> tuple[str, Layout, list[int]]:
    """LLVM IR of all clauses, the layout they share, and how many programs each has become."""
    from insitu.probe import ast
    from insitu.probe.codegen.cpu_maps import maps_by_cpu
    from insitu.probe.codegen.emitter import Module
    from insitu.probe.codegen.joint_maps import join_updates
    from insitu.probe.codegen.map_keys import names_of_whole_maps
    from insitu.probe.codegen.program import ClauseLowering
    from insitu.probe.types import Unknown

    checker = unit.checker
    source, options = checker.source, checker.options
    whole = names_of_whole_maps(node for clause in unit.clauses for node in ast.walk(clause.probe))
    layout = Layout(max_keys=options.max_map_keys, ring_bytes=_ring_bytes(options))
    for names in join_updates(unit.clauses, checker.maps):
        key = checker.maps[names[0]].key
        assert key is not None
        layout.joint_map({name: checker.maps[name].value for name in names}, key)
    for name in maps_by_cpu(unit.clauses, checker.maps, whole):
        entry = checker.maps[name]
        assert entry.key is not None
        layout.cpu_map(name, entry.key, entry.value)
    for name, entry in checker.maps.items():
        if not isinstance(entry.value, Unknown):
            layout.script_map(
                name,
                entry.key if entry.key and entry.key.elements else None,
                entry.value,
                evicts=entry.evicts,
                entries=entry.entries,
                may_split=entry.declared is None and name not in whole,
            )
    module = Module(source.name, source.text)
    parts: list[int] = []
    for index, clause in enumerate(unit.clauses):
        lowering = ClauseLowering(checker, module, layout, clause, index)
        lowering.lower()
        parts.append(lowering.count)
        layout.take_scratch(lowering.scratch_bytes)
    layout.fit_point_names(max(point.cookie for clause in unit.clauses for point in clause.points))
    layout.fit_ring()
    return module.render(), layout, parts


def _ring_bytes(options: Options) -> int:
    pages = 1
    while pages < options.perf_rb_pages * 64:
        pages *= 2
    return pages * 4096
