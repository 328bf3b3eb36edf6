"""The script's own functions: what is refused, and where the error points."""

import pytest

from insitu.probe.source import ScriptError
from insitu.probe.types import INT64, Integer, String

from .probe_scripts import checked, compiled


@pytest.mark.parametrize(
    ("script", "message", "place"),
    [
        ("fn f($n : int64) : int64 { return $n; } BEGIN { f(); }", "f() takes 1 argument, not 0", "f();"),
        ("fn f($n : int64) : int64 { return $n; } BEGIN { f(1, 2); }", "f() takes 1 argument, not 2", "f(1, 2)"),
        ('fn f($n : int64) : int64 { return $n; } BEGIN { f("x"); }', "takes int64 for $n, not string", '"x"'),
        ("fn f($s : string) : int64 { return 1; } BEGIN { f(5); }", "for $s, not int64", "5)"),
        ('fn f() : int64 { return "x"; } BEGIN { f(); }', "f() returns int64, not string", '"x"'),
        ("fn f() : int64 { return; } BEGIN { f(); }", "f() returns int64: return needs a value", "return"),
        ("fn f() : void { return 1; } BEGIN { f(); }", "f() returns nothing (void)", "1;"),
        ("fn f() : void { } BEGIN { $x = f(); }", "no value to assign", "f();"),
        ("fn f() : int64 { return f(); } BEGIN { f(); }", "f() calls itself (f -> f)", "f();"),
        ("fn f() : void { g(); } fn g() : void { f(); } BEGIN { }", "f() calls itself (f -> g -> f)", "f(); }"),
        ("fn f() : int64 { return $outer; } BEGIN { $outer = 1; f(); }", "unknown variable $outer", "$outer"),
        ("fn f($a : int64) : int64 { let $a = 1; return $a; } BEGIN { f(1); }", "$a is already declared", "$a = 1"),
        ("fn f() : void { break; } BEGIN { while (1) { f(); } }", "break outside a loop", "break"),
        ("fn f() : void { } fn f() : void { } BEGIN { }", "f() is already defined", "fn f() : void { } BEGIN"),
        ("fn f($a) : int64 { return 1; } BEGIN { }", "expected ':' and the parameter's type", ") :"),
        ("fn f($a : int64) { return 1; } BEGIN { }", "or void", "{ return"),
        ("fn f($a : nothing) : int64 { return 1; } BEGIN { f(1); }", "unknown type 'nothing'", "nothing"),
        ("fn f() : int64 { return sizeof(1; } BEGIN { }", "unexpected ';'", "; }"),
    ],
)
def test_a_wrong_function_is_shown_where_it_is_wrong(script: str, message: str, place: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in caught.value.plain
    assert script[caught.value.span.start :].startswith(place)


def test_a_call_has_the_type_that_the_function_says() -> None:
    script = """fn number($a : uint32) : uint16 { return $a; } fn text($n : int64) : string {
        if ($n) { return "short"; } return "a longer one"; }
        BEGIN { @n = number(7); @t = text(1); }"""
    maps = checked(script).checker.maps
    assert maps["@n"].value == Integer(8, signed=False)
    assert maps["@t"].value == String(13)


def test_a_script_may_name_its_functions_as_the_language_does() -> None:
    assert (
        checked("fn sum($n : int64) : int64 { return $n; } BEGIN { @x = sum(1); }").checker.maps["@x"].value == INT64
    )


def test_functions_may_be_called_before_they_are_defined_and_by_macros() -> None:
    script = """macro twice(x) { f(x) + f(x) } BEGIN /f(1)/ { @a = twice(f(2)); }
        fn f($a : int64) : int64 { return $a; }"""
    assert compiled(script).programs[0].code


def test_calls_that_multiply_are_bounded() -> None:
    functions = ["fn f0() : int64 { return 1; }"]
    functions += [f"fn f{n}() : int64 {{ return f{n - 1}() + f{n - 1}(); }}" for n in range(1, 32)]
    with pytest.raises(ScriptError, match=r"f\d+\(\) makes the script too large: .* over 200000 nodes"):
        checked(" ".join(functions) + " BEGIN { f31(); }")


@pytest.mark.parametrize("order", [1, -1])
def test_a_chain_of_more_than_250_functions_is_refused_in_whichever_order_they_are_written(order: int) -> None:
    functions = ["fn f0() : int64 { return 1; }"]
    functions += [f"fn f{n}() : int64 {{ return f{n - 1}() + 1; }}" for n in range(1, 251)]
    assert compiled(" ".join(functions[:-1][::order]) + " BEGIN { @x = f249(); }").programs[0].code
    with pytest.raises(ScriptError, match="call each other more than 250 deep"):
        checked(" ".join(functions[::order]) + " BEGIN { f250(); }")


def test_functions_that_nest_deeper_than_the_compiler_can_walk_are_refused_at_the_deepest() -> None:
    body = "return " + "(1 + " * 120 + "f{}()" + ")" * 120 + ";"
    functions = ["fn f0() : int64 { return 1; }"]
    functions += [f"fn f{n}() : int64 {{ {body.format(n - 1)} }}" for n in range(1, 200)]
    with pytest.raises(ScriptError, match="nested too deeply, the macros and functions in it expanded"):
        compiled("\n".join(functions) + " BEGIN { @x = f199(); }")


@pytest.mark.parametrize(
    ("script", "message", "place"),
    [
        ('fn f() : int64 { return "x"; } BEGIN { }', "f() returns int64, not string", '"x"'),
        ("fn f($a : uint8) : void { strlen($a); } BEGIN { }", "takes a string, not uint8", "$a); } BEGIN"),
        ("fn f() : void { print(@nothing); } BEGIN { }", "undefined map: @nothing", "@nothing"),
        ('fn f() : void { @ = "x"; } BEGIN { @ = 1; }', "@ is int64, this is string", '"x"'),
        ("fn g() : void { nonsense(); } fn f() : void { g(); } BEGIN { }", "unknown function", "nonsense"),
        ("fn f() : int64 { return arg0; } BEGIN { }", "arg0 is not available in a begin probe", "arg0"),
    ],
)
def test_a_function_that_nothing_calls_is_checked_too(script: str, message: str, place: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in caught.value.plain
    assert script[caught.value.span.start :].startswith(place)


def test_functions_that_nothing_calls_share_maps_which_do_not_come_to_exist() -> None:
    script = "fn reads() : int64 { return @a + 1; } fn writes() : void { @a = 1; } BEGIN { @b = 1; }"
    assert list(checked(script).checker.maps) == ["@b"]


def test_functions_that_nothing_calls_have_variables_of_their_own() -> None:
    checked("fn f($a : int64) : int64 { return $a; } fn g($a : string) : string { return $a; } BEGIN { }")


def test_a_function_that_nothing_calls_may_use_what_any_of_the_probes_has() -> None:
    checked("fn f() : int64 { return arg0; } BEGIN { } uprobe:libc:puts { }")
