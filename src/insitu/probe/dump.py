"""Shows a stage of compilation: the tree after a pass, LLVM IR, BPF instructions, what the kernel made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from insitu.probe import ast
from insitu.probe.codegen.object import disassembly, optimized_ir
from insitu.probe.compile import compile_script, lower
from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.providers.base import Context
from insitu.probe.source import Source

__all__ = ["dump"]


def dump(stage: str, source: Source, options: Options, context: Context) -> int:
    """Print one of STAGES."""
    if stage in ("xlated", "verifier"):
        return _loaded(stage, source, options, context)
    generated = stage in ("ir", "insns")
    unit = run_passes(Unit(source, options, context), last="parse" if stage == "ast" else "" if generated else stage)
    if generated:
        text, _, _ = lower(unit)
        print(optimized_ir(text) if stage == "ir" else disassembly(text))
    elif unit.clauses:
        _clauses(unit, stage)
    else:
        program = unit.program
        for line in _tree([*program.structures, *program.macros, *program.functions, *program.probes], 0):
            print(line)
    return 0


def _clauses(unit: Unit, stage: str) -> None:
    for clause in unit.clauses:
        print(", ".join(point.name for point in clause.points))
        for line in _tree([clause.probe.predicate, clause.probe.body], 1):
            print(line)
    if stage == "types":
        for name, entry in sorted(unit.checker.maps.items()):
            print(f"{name}[{', '.join(map(str, entry.key.elements)) if entry.key else ''}]: {entry.value}")


def _tree(node: Any, depth: int) -> Iterator[str]:
    """One line for each node, its plain attributes beside its name."""
    if isinstance(node, list):
        for element in node:
            yield from _tree(element, depth)
        return
    if not isinstance(node, ast.Node):
        return
    found = getattr(node, "type", None)
    plain, below = [f": {found}"] if found is not None else [], []
    for name in ast.child_names(node):
        value = getattr(node, name)
        if value is None or value == []:
            continue
        if isinstance(value, ast.TypeName | ast.AttachText):
            plain.append(str(value))
        elif isinstance(value, ast.Node) or (isinstance(value, list) and isinstance(value[0], ast.Node)):
            below.append(value)
        else:
            plain.append(f"{name}={value!r}")
    yield f"{'  ' * depth}{type(node).__name__} {' '.join(plain)}".rstrip()
    for value in below:
        yield from _tree(value, depth + 1)


def _loaded(stage: str, source: Source, options: Options, context: Context) -> int:
    from insitu.kernel.bpf import program_info
    from insitu.probe.runtime.loader import load

    loaded = load(compile_script(source, options, context), source, {}, log_level=2 if stage == "verifier" else 0)
    try:
        for program in loaded.programs:
            print(f"{program.points[0].name}:")
            if stage == "verifier":
                print(program.log)
                continue
            code = program_info(program.fd, code=True).translated
            for at in range(0, len(code), 8):
                print(f"{at // 8:5d}: {code[at : at + 8].hex(' ')}")
    finally:
        loaded.close()
    return 0
