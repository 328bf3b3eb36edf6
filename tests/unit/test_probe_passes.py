"""The passes in their order, and what --dump shows of them."""

import io
from contextlib import redirect_stdout

import pytest

from insitu.probe import ast
from insitu.probe.builtins.registry import BuiltinFunction
from insitu.probe.builtins.tables import FUNCTIONS, MODULES, VARIABLES
from insitu.probe.dump import dump
from insitu.probe.options import Options
from insitu.probe.passes import PASSES, STAGES, Unit, run_passes
from insitu.probe.source import Source

from .probe_scripts import NoKernel

_SCRIPT = """
macro twice($x) { $x * 2 }
fn half($x : int64) : int64 { return $x / 2; }
BEGIN { $a = 1; if ($a) { $b = 2; @ = twice($a) + half($b); } else { $b = 3; @ = $b; } }
"""


def _after(name: str) -> set[str]:
    """The classes of nodes that the probes are made of after a pass."""
    unit = run_passes(Unit(Source(_SCRIPT), Options(), NoKernel()), last=name)
    return {type(node).__name__ for node in ast.walk(unit.program.probes)}


def test_each_pass_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert len({each.name for each in PASSES}) == len(PASSES)
    assert all(each.summary for each in PASSES)


def test_calls_of_macros_and_functions_are_gone_after_their_passes() -> None:
    assert "Call" in _after("parse") and "BlockExpression" not in _after("parse")
    assert "BlockExpression" in _after("macros") and "FunctionCall" not in _after("macros")
    assert "FunctionCall" in _after("functions") and "Call" not in _after("functions")


def test_types_are_known_after_the_last_pass_only() -> None:
    for name, typed in (("attach", False), ("types", True)):
        unit = run_passes(Unit(Source(_SCRIPT), Options(), NoKernel()), last=name)
        found = [each for each in ast.walk(unit.clauses[0].probe.body) if isinstance(each, ast.Integer)]
        assert found and all((each.type is not None) == typed for each in found)


@pytest.mark.parametrize("stage", [each for each in STAGES if each not in ("xlated", "verifier")])
def test_a_stage_is_shown(stage: str) -> None:
    with redirect_stdout(io.StringIO()) as shown:
        assert dump(stage, Source(_SCRIPT), Options(), NoKernel()) == 0
    assert shown.getvalue().strip()


def test_no_name_belongs_to_two_builtins_of_a_kind() -> None:
    everything = [builtin for module in MODULES for builtin in module.BUILTINS]
    functions = [each.name for each in everything if isinstance(each, BuiltinFunction)]
    variables = [each.name for each in everything if not isinstance(each, BuiltinFunction)]
    assert len(set(functions)) == len(functions) and len(set(variables)) == len(variables)
    assert set(VARIABLES) == set(variables) and set(FUNCTIONS) == {*functions, *variables}


def test_every_builtin_has_a_form_in_which_it_is_lowered() -> None:
    assert all(each.value or each.store for each in (*FUNCTIONS.values(), *VARIABLES.values()))
