"""Which variable a name means: the rules of bpftrace from 0.22 on, and what older scripts rely on."""

from pathlib import Path

import pytest

from insitu.probe import ast
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.passes.macros import expand_macros
from insitu.probe.passes.scopes import plain_name, resolve_scopes
from insitu.probe.source import ScriptError, Source

from .probe_scripts import checked

_TOOLS = sorted(Path("/usr/sbin").glob("*.bt"))


def _names(text: str) -> list[str]:
    """The variables of the only probe, in the order of their places, under the names that the pass gave them."""
    source = Source(text)
    program = parse(source)
    expand_macros(program, source)
    resolve_scopes(program, source)
    nodes = [node for node in ast.walk(program.probes) if isinstance(node, ast.Variable)]
    return [node.name for node in sorted(nodes, key=lambda node: node.span)]


def test_a_block_sees_and_changes_the_variables_around_it() -> None:
    assert len(set(_names("BEGIN { $x = 1; if (1) { $x = 2; while ($x) { $x-- } } print($x); }"))) == 1


def test_equal_names_in_blocks_apart_are_variables_apart() -> None:
    assert len(set(_names("BEGIN { if (1) { $x = 1; } if (2) { $x = 2; } { $x = 3; } }"))) == 3
    types = checked('BEGIN { if (1) { $x = 1; print($x); } if (2) { $x = "text"; print($x); } }').checker
    assert sorted(type(kind).__name__ for kind in types.variables.values()) == ["Integer", "String"]


def test_loop_variables_belong_to_their_loop() -> None:
    assert len(set(_names("BEGIN { for ($i : 0..2) { } for ($i : 0..3) { } }"))) == 2


def test_what_both_branches_assign_is_known_after_them_as_in_older_scripts() -> None:
    text = 'BEGIN { if (1) { $x = "a"; } else if (2) { $x = "b"; } else { $x = "c"; } print($x); }'
    assert len(set(_names(text))) == 1
    assert len(set(_names("BEGIN { if (1) { $x = 1; } else { $x = 2; } }"))) == 2


def test_loops_know_what_they_share() -> None:
    source = Source("BEGIN { $n = 0; for ($i : 0..9) { $own = $i; $n += $own; } print($n); }")
    program = parse(source)
    resolve_scopes(program, source)
    assert [node.shared for node in ast.walk(program.probes) if isinstance(node, ast.For)] == [["$n"]]


@pytest.mark.parametrize(
    ("script", "message", "place"),
    [
        # bpftrace's own examples, in its migration guide
        ("BEGIN { if (0) { $x = 1; } print($x); }", "is local to the block that assigns it", "$x)"),
        ("BEGIN { let $x; if (0) { let $x = 1; } }", "already declared, at stdin:1:13", "$x = 1"),
        ("BEGIN { { $x = 1; } print($x); }", "is local to the block that assigns it", "$x)"),
        ("BEGIN { for ($i : 0..3) { } print($i); }", "is local to the block", "$i)"),
        ("BEGIN { $i = 1; for ($i : 0..3) { } }", "already declared", "$i : 0"),
        ("BEGIN { $long = 1; print($lnog); }", "unknown variable $lnog; did you mean '$long'?", "$lnog"),
        ("BEGIN { $x += 1; }", "unknown variable $x", "$x"),
        ("BEGIN { $x++; }", "unknown variable $x", "$x"),
        ("BEGIN { $x = $x + 1; }", "unknown variable $x", "$x + 1"),
        ("BEGIN /$x/ { }", "unknown variable $x", "$x"),
        ("BEGIN { if (0) { $x = 1; } else { $y = 1; } print($y); }", "is local to the block", "$y)"),
    ],
)
def test_a_name_that_means_nothing_is_shown(script: str, message: str, place: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in caught.value.plain
    assert script[caught.value.span.start :].startswith(place)
    assert "\n" not in str(caught.value)


def test_a_macros_variables_are_apart_from_its_callers() -> None:
    text = (
        "macro twice(x) { let $v = x; $v + $v } BEGIN { $v = 2; print(twice($v + 1)); print(twice(1)); print($v); }"
    )
    assert len(set(_names(text))) == 1 + 2  # the caller's, and one of each copy


@pytest.mark.skipif(not _TOOLS, reason="needs Debian's bpftrace package, for its tools")
def test_debians_tools_follow_the_rules() -> None:
    for path in _TOOLS:
        source = Source(path.read_text(), path.name)
        resolve_scopes(parse(source, ["1"]), source)


def test_errors_call_a_variable_as_the_script_does() -> None:
    assert plain_name("$x#3~2") == "$x"
    with pytest.raises(ScriptError, match=r"mismatch: \$x is int64"):
        checked('macro m() { let $x = 1; $x = "text"; } BEGIN { m(); }')
