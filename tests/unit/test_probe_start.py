"""What a start imports: nothing that it does not use."""

import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

# Not inspect: msgspec imports typing_extensions where that is installed, which imports it.
_STANDARD = {"dataclasses", "pathlib", "json", "hashlib", "socket", "subprocess", "shutil", "tempfile"}
_HEAVY = _STANDARD | {"numpy", "polars", "duckdb", "llvmlite", "rich", "jinja2"}


def _imported(statements: str) -> set[str]:
    program = f"{statements}\nimport sys; print(*sys.modules)"
    # -S: what site-packages' own .pth files import is not ours.
    words = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


_RUN = (
    "from insitu.probe.compile import compile_script\n"
    "from insitu.probe.options import Options\n"
    "from insitu.probe.providers.base import Context\n"
    "from insitu.probe.source import Source\n"
    'compile_script(Source("BEGIN { @x[pid] = count(); exit(); }"), Options(), Context(), cached=True)'
)


def test_the_modules_that_a_start_from_the_cache_needs_import_nothing_heavy() -> None:
    kinds = "begin_end, tracepoint, rawtracepoint, kprobe, fentry, timer, counter"
    modules = "import insitu.commands.trace_run, insitu.probe.cache"
    assert not _imported(f"{modules}\nfrom insitu.probe.providers import {kinds}") & _HEAVY


def test_a_start_from_the_cache_imports_no_llvm_and_no_checker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = {"llvmlite.binding", "insitu.probe.codegen.lowering", "insitu.probe.codegen.object"}
    compiler |= {"insitu.probe.bpftrace.script_parser", "insitu.probe.passes.scopes"}
    assert compiler <= _imported(_RUN)
    found = _imported(_RUN)
    assert not found & (compiler | _HEAVY)
    assert not any(name.startswith(("insitu.probe.passes.check.checker", "insitu.probe.builtins.")) for name in found)


def test_quick_imports_hide_typing_extensions_from_msgspec_alone() -> None:
    quick = "from insitu.quick_imports import QuickImports\nwith QuickImports():\n    import msgspec"
    assert "typing_extensions" not in _imported(quick)
    assert "typing_extensions" in _imported(f"{quick}\nimport typing_extensions")


def test_a_trace_starts_without_typing_extensions() -> None:
    start = "from insitu.cli import main\nmain(['trace', '--dry-run', '--no-cache', '-e', 'BEGIN {'])"
    assert "typing_extensions" not in _imported(start)


def test_listing_tracepoints_imports_no_compiler() -> None:
    found = _imported("import insitu.probe.listing, insitu.probe.providers.tracepoint")
    assert not found & (_HEAVY | {"insitu.probe.compile", "insitu.probe.bpftrace.script_parser"})


def test_no_modules_of_the_probe_language_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("insitu", exclude_type_checking_imports=False, cache_dir=None)
    modules = {name for name in graph.modules if name.startswith("insitu.probe")}
    assert "insitu.probe.passes.check.checker" in modules
    imports = {name: graph.find_modules_directly_imported_by(name) & modules for name in modules}
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) == len(modules)
