"""Bodies too long for one BPF program: where they are cut, and what cannot be."""

from itertools import pairwise

import pytest

from insitu.probe.compile import CompiledProgram
from insitu.probe.source import ScriptError

from .probe_scripts import compiled

_MOST_INSTRUCTIONS = 32_767  # what a jump reaches


def _parts(script: str) -> list[CompiledProgram]:
    program = compiled(script).programs[0]
    return [program, *program.further]


def _ifs(count: int) -> str:
    return "".join(f"if (pid == {n}) {{ @x[{n}] = $v; }}\n" for n in range(count))


def test_a_short_body_is_one_program() -> None:
    compiled_script = compiled("BEGIN { $v = 1; " + _ifs(50) + "}")
    assert not compiled_script.programs[0].further
    assert not any(layout.name.startswith("parts") for layout in compiled_script.layout.maps)


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { $v = 1; BODY }",
        "BEGIN { $v = 1; if (pid) { BODY } @behind = $v; }",
        "BEGIN { $v = 1; if (pid) { @a = 1; } else { if (tid) { BODY } @inner = 1; } @behind = $v; }",
    ],
)
def test_a_long_body_is_cut_also_inside_ifs(script: str) -> None:
    parts = _parts(script.replace("BODY", _ifs(1500)))
    assert len(parts) >= 3
    assert all(len(part.code) // 8 < _MOST_INSTRUCTIONS for part in parts)


def test_a_program_that_was_cut_comes_whole_from_the_cache(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from insitu.probe.compile import compile_script
    from insitu.probe.options import Options
    from insitu.probe.source import Source

    from .probe_scripts import NoKernel

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("insitu.probe.codegen.program._PART_LINES", 300)
    source = Source("BEGIN { $v = 1; " + _ifs(60) + "}")
    first, again = (compile_script(source, Options(), NoKernel(), cached=True).programs[0] for _ in range(2))
    assert len(first.further) > 2
    assert [part.code for part in again.further] == [part.code for part in first.further]
    assert again.parts_map == first.parts_map


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { $v = 1; for ($i : 0..1000) { BODY } }",
        "BEGIN { $v = 1; for ($i : 0..10) { BODY } }",
        "BEGIN { $v = 1; while ($v) { if (tid) { BODY } } }",
        "fn f($v : int64) : void { BODY } BEGIN { f(1); }",
        "BEGIN { $v = 1; unroll (2) { BODY } }",
    ],
)
def test_long_bodies_of_loops_and_functions_become_several_functions(script: str) -> None:
    (part,) = _parts(script.replace("BODY", _ifs(1500)))
    starts = [start for start, _ in part.functions] + [len(part.code) // 8]
    sizes = [after - start for start, after in pairwise(starts)]
    assert sum(sizes) > _MOST_INSTRUCTIONS > max(sizes)


def test_more_parts_than_the_kernel_calls_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insitu.probe.codegen.program._PART_LINES", 100)
    with pytest.raises(ScriptError, match="this probe is too long"):
        compiled("BEGIN { $v = 1; " + _ifs(500) + "}")
