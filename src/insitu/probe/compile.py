"""The compiler as a whole: a script's text to programs, maps and records that are ready to be loaded."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from insitu.dataclass import dataclass, field
from insitu.errors import InsituError
from insitu.probe import ast
from insitu.probe.layout import MAX_PER_CPU_BYTES, RUN_BY_US, Layout
from insitu.probe.options import Options
from insitu.probe.parse import parse
from insitu.probe.passes.attach import Clause, resolve_attach_points
from insitu.probe.passes.functions import expand_functions
from insitu.probe.passes.library import expand_library
from insitu.probe.passes.macros import expand_macros
from insitu.probe.passes.scopes import resolve_scopes
from insitu.probe.providers.base import AttachPoint, Context, ProgramKind
from insitu.probe.source import ScriptError, Source, Span

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check import Checker

__all__ = ["Compiled", "CompiledProgram", "Front", "compile_script", "front_end", "lower"]

# Kinds whose probes are hit by all processes.
_EVERYWHERE = {"kprobe", "kretprobe", "fentry", "fexit", "tracepoint", "rawtracepoint"}
# Passes recurse over a tree whose depth the parser bounds; this is enough for the deepest it lets through.
_RECURSION_LIMIT = 20_000


@dataclass
class CompiledProgram:
    """One BPF program: its code with our numbers where descriptors go (codegen.emitter.Marker), and its points."""

    name: str
    kind: ProgramKind
    points: list[AttachPoint]
    code: bytes
    lines: tuple[tuple[int, int, int], ...]
    functions: tuple[tuple[int, int], ...]
    line_info: bytes
    per_point: bool  # load it once for each point, as it holds the point's number
    alternative: bool = False
    absent: bool = False


@dataclass
class Compiled:
    """Everything the runtime needs."""

    programs: list[CompiledProgram]
    layout: Layout
    btf: bytes
    print_maps: bool = True
    warnings: list[str] = field(default_factory=list)
    tells_missing: bool = True  # whether places that cannot be attached are worth a warning
    demangles: bool = True
    trailer: str = ""
    max_strlen: int = 0


@dataclass
class Front:
    """What the passes before code generation found out."""

    program: ast.Program
    clauses: list[Clause]
    checker: Checker


def _resolve(source: Source, options: Options, context: Context) -> tuple[ast.Program, list[Clause], list[str]]:
    """Parse, expand, tell variables apart, and find the attach points: the tree, its clauses, warnings."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    program = parse(source, options.parameters)
    try:
        options.apply_config(program.config)
    except InsituError as error:
        at = source.text.find("config")
        raise ScriptError(str(error), source, Span(at, at + 6)) from None
    options.one_process = context.pid is not None
    context.max_probes = options.max_probes
    context.missing_probes = options.missing_probes
    expand_macros(program, source)
    expand_library(program, source)
    resolve_scopes(program, source)
    expand_functions(program, source)
    clauses, warnings = resolve_attach_points(program, source, context)
    return program, clauses, warnings


def _check(program: ast.Program, clauses: list[Clause], source: Source, options: Options, context: Context) -> Front:
    # Imported late, like everything below: a start from the cache comes without.
    from insitu.probe.passes.check import check
    from insitu.probe.structures import Structures

    structures = Structures(source, program.structures, context)
    return Front(program, clauses, check(clauses, source, structures, options, context))


def front_end(source: Source, options: Options, context: Context) -> Front:
    """Parse, expand, resolve and check.

    :raises ScriptError: at what is wrong.
    """
    program, clauses, _ = _resolve(source, options, context)
    return _check(program, clauses, source, options, context)


def compile_script(source: Source, options: Options, context: Context, *, cached: bool = False) -> Compiled:
    """A script's programs; with ``cached``, code made by an earlier run is used, and kept for a later one.

    :raises ScriptError: at what is wrong.
    """
    program, clauses, warnings = _resolve(source, options, context)
    compiled, key = None, ""
    if cached:
        from insitu.probe import cache

        key = cache.entry_key(source, options, clauses)
        compiled = _from_cache(cache.load_entry(key), clauses)
    if compiled is None:
        compiled = _generate(_check(program, clauses, source, options, context))
        if cached:
            kept = [_to_entry(each) for each in compiled.programs]
            cache.store_entry(key, kept, compiled.layout, compiled.btf, compiled.print_maps)
    compiled.tells_missing = options.missing_probes != "ignore"
    compiled.warnings = warnings if compiled.tells_missing else []
    compiled.demangles = options.cpp_demangle
    compiled.trailer, compiled.max_strlen = options.str_trunc_trailer, options.max_strlen
    return compiled


def _from_cache(entry: dict[str, Any] | None, clauses: list[Clause]) -> Compiled | None:
    """What an earlier run made of the same."""
    if entry is None or len(entry["programs"]) != len(clauses):
        return None
    programs = [_from_entry(clause, content) for clause, content in zip(clauses, entry["programs"], strict=True)]
    return Compiled(programs, entry["layout"], entry["btf"], entry["print_maps"])


def _to_entry(program: CompiledProgram) -> dict[str, Any]:
    return {
        "code": program.code,
        "lines": program.lines,
        "functions": program.functions,
        "line_info": program.line_info,
        "per_point": program.per_point,
    }


def _from_entry(clause: Clause, content: dict[str, Any]) -> CompiledProgram:
    return CompiledProgram(
        _program_name(clause),
        clause.kind,
        clause.points,
        content["code"],
        content["lines"],
        content["functions"],
        content["line_info"],
        content["per_point"],
        clause.alternative,
        clause.absent,
    )


def _generate(front: Front) -> Compiled:
    text, layout, scratch = lower(front)
    from insitu.probe.codegen.object import compile_ir

    code = compile_ir(text)
    if scratch:
        number = layout.scratch_map()
        layout.maps[number].value_size = max(scratch.values())
        layout.maps[number].max_entries = len(front.clauses)
    programs = []
    for index, clause in enumerate(front.clauses):
        section = code.sections[f"p{index}"]
        per_point = clause.tells_points_apart and not (clause.kind.cookies and len(clause.points) > 1)
        programs.append(
            CompiledProgram(
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
        )
    return Compiled(programs, layout, code.btf, front.checker.options.print_maps_on_exit)


def _program_name(clause: Clause) -> str:
    point = clause.points[0]
    return point.function or point.name.replace(":", "_")


def lower(front: Front) -> tuple[str, Layout, dict[int, int]]:
    """LLVM IR of all clauses, the layout they share, and the bytes of scratch memory that programs need."""
    for name in ("arithmetic", "memory", "maps", "statements", "loops"):
        importlib.import_module(f"insitu.probe.codegen.{name}")
    from insitu.probe.codegen.emitter import Function, Module
    from insitu.probe.codegen.loops import functions_on_stack, shared_variables
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.types import Unknown

    checker = front.checker
    source, options = checker.source, checker.options
    layout = Layout(max_keys=options.max_map_keys, ring_bytes=_ring_bytes(options))
    for name, entry in checker.maps.items():
        if not isinstance(entry.value, Unknown):
            layout.script_map(name, entry.key if entry.key and entry.key.elements else None, entry.value)
    module = Module(source.name)
    scratch: dict[int, int] = {}
    for index, clause in enumerate(front.clauses):
        checker.clause = clause
        line, _ = source.line_column(clause.probe.span.start)
        emitter = Function(module, f"probe_{index}", line, f"p{index}")
        emitter.setup("  %context = call ptr @llvm.preserve.static.offset(ptr %ctx)\n")
        low = Lowering(checker, emitter, layout, clause, index)
        body = clause.probe.body
        low.expect_callbacks(functions_on_stack(low, body), shared_variables(low, body))
        if clause.points[0].kind not in RUN_BY_US:
            _leave_after_exit(low)
        if options.one_process and clause.points[0].kind in _EVERYWHERE:
            _leave_in_other_processes(low)
        if clause.kind.context == "iterator":
            _leave_at_the_end_of_a_walk(low)
        if clause.probe.predicate is not None:
            low.at(clause.probe.predicate.span)
            with low.temporaries():
                truth = low.truth(clause.probe.predicate)
            yes, no = emitter.label(), emitter.label()
            emitter.branch_if(truth, yes, no)
            emitter.block(no)
            emitter.ret("0")
            emitter.block(yes)
        low.statement(body)
        if low.scratch_bytes > MAX_PER_CPU_BYTES:
            message = (
                f"the values of this probe take {low.scratch_bytes} bytes, the kernel allows {MAX_PER_CPU_BYTES}"
            )
            remedy = "use pointers to large structs rather than copies"
            raise ScriptError(message, source, clause.probe.attach_points[0].span, remedy=remedy)
        if low.scratch_bytes:
            scratch[index] = low.scratch_bytes
    layout.fit_ring()
    return module.render(), layout, scratch


def _leave_in_other_processes(low: Lowering) -> None:
    """With a process given, probes that the kernel cannot attach to one process run their body in that one only."""
    from insitu.probe.builtins.process import process_id
    from insitu.probe.codegen.emitter import Patch

    emit = low.emit
    ours, other = emit.label(), emit.label()
    emit.branch_if(emit.value(f"icmp eq i64 {process_id(low)}, {emit.patched(Patch.ONLY_PID)}"), ours, other)
    emit.block(other)
    emit.ret("0")
    emit.block(ours)


def _leave_after_exit(low: Lowering) -> None:
    """After exit(), and while probes are detached one by one, events no longer count."""
    over = low.emit.truth(low.emit.load(low.emit.map_value(low.layout.exit_map())))
    gone, there = low.emit.label(), low.emit.label()
    low.emit.branch_if(over, gone, there)
    low.emit.block(gone)
    low.emit.ret("0")
    low.emit.block(there)


def _leave_at_the_end_of_a_walk(low: Lowering) -> None:
    """An iterator's last run is for no object. The verifier wants each pointer tested once, and that one used."""
    from insitu.probe.providers.base import ContextField
    from insitu.symbols.btf import Kind, Type

    for argument in low.clause.arguments or ():
        if not isinstance(argument.type, Type) or argument.type.strip().kind != Kind.PTR or argument.name == "meta":
            continue
        assert isinstance(argument.load, ContextField)
        value = low.load_context(argument.load.offset, argument.load.size)
        there, gone = low.emit.label(), low.emit.label()
        low.emit.branch_if(low.emit.truth(value), there, gone)
        low.emit.block(gone)
        low.emit.ret("0")
        low.emit.block(there)
        low.walked[argument.name] = value


def _ring_bytes(options: Options) -> int:
    pages = 1
    while pages < options.perf_rb_pages * 64:
        pages *= 2
    return pages * 4096
