"""Macros: which of several is meant, types as arguments, and what is decided while compiling."""

import pytest

from insitu.probe.passes.check.checker import Checker
from insitu.probe.source import ScriptError

from .probe_scripts import checked, compiled


def _held(text: str) -> object:
    """The constant that the last statement, ``@x = ...``, assigns."""
    checker: Checker = checked(text).checker
    value = checker.clause.probe.body.statements[-1].value  # type: ignore[attr-defined]
    return checker.known_value(value)


_OVERLOADS = """macro add(a) { a + 1 } macro add(a, b) { a + b } macro add(a, b, c) { add(add(a, b), c) }
macro kind($x) { 1 } macro kind(@x) { 2 } macro kind(x) { 3 } macro kind() { 4 }
macro strcap(a, b) { a + b } macro two() { kind(5) + 2 }
"""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("add(1)", 2),
        ("add(1, 20)", 21),
        ("add(1, 20, 300)", 321),
        ("kind($v)", 1),
        ("kind(@m)", 2),
        ("kind($v + 1)", 3),
        ("kind()", 4),
        ("kind", 4),
        ("two", 5),
        ("strcap(1, 2)", 3),
        ('strcap("abc")', 4),  # the builtin: none of the script's takes one argument
    ],
)
def test_of_macros_with_one_name_the_first_that_takes_the_arguments_is_meant(expression: str, value: int) -> None:
    assert _held(f"{_OVERLOADS} BEGIN {{ $v = 1; @m = 1; @x = {expression}; }}") == value


@pytest.mark.parametrize(
    "text",
    [
        "macro m0(x) { x } "
        + " ".join(f"macro m{n}(x) {{ m{n - 1}(x) + m{n - 1}(x) }}" for n in range(1, 60))
        + "BEGIN { @x = m59(1); }",
        "macro m(x) { x + x } BEGIN { @x = " + "m(" * 60 + "1" + ")" * 60 + "; }",
    ],
)
def test_macros_that_multiply_are_refused_with_the_limit(text: str) -> None:
    with pytest.raises(ScriptError, match=r"\w+\(\) makes the script too large: .* over 200000 nodes"):
        checked(text)


def test_a_macro_may_be_called_many_times_and_in_long_chains() -> None:
    assert checked("macro m(x) { x + 1 } BEGIN { " + "@x = m(1); " * 12_000 + "}").checker.maps
    chain = "macro m0(x) { x } " + " ".join(f"macro m{n}(x) {{ m{n - 1}(x + 1) }}" for n in range(1, 251))
    assert _held(chain + " BEGIN { @x = m249(5); }") == 254
    with pytest.raises(ScriptError, match="call each other more than 250 deep"):
        checked(chain + " BEGIN { @x = m250(5); }")


_TYPES = """struct inner { char a; long b; }; struct foo { int x; struct inner in; };
macro both(s, t) { sizeof(s) + sizeof(t[2]) } macro pointer(t) { sizeof(t *) + sizeof(typeof(t)) }
macro place(s, m) { offsetof(s, m) } macro cut(t, n) { let $n : t = n; sizeof((t)$n) }
"""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("both(typeof(struct foo), typeof(uint64 *))", 24 + 16),
        ("both(struct inner, uint8)", 16 + 2),
        ("pointer(typeof(struct foo))", 8 + 24),
        ("place(typeof(struct foo), in.b)", 16),
        ("place(struct foo, in)", 8),
        ("sizeof(*container_of(0, struct foo, in))", 24),
    ],
)
def test_types_are_given_to_macros_and_to_functions_of_the_library(expression: str, value: int) -> None:
    assert _held(f"{_TYPES} BEGIN {{ @x = {expression}; }}") == value


def test_a_macro_casts_to_the_type_that_it_is_given() -> None:
    checker = checked(f"{_TYPES} macro as(t, n) {{ (t)n }} BEGIN {{ $a = as(typeof(uint16), 70000); }}").checker
    assert str(checker.variables["$a"]) == "uint16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("macro f(a) { a } macro f(b) { b } BEGIN { f(1); }", "already defined for these arguments, at stdin:1:1"),
        ("macro f(a) { a } macro f($b) { $b } BEGIN { f(1); }", "already defined for these arguments"),
        ("macro f(a, a) { a } BEGIN { f(1, 2); }", "two parameters of one name"),
        ("macro f(a) { a } macro f(a, b, c) { a } BEGIN { f(1, 2); }", "macro f() takes 1 or 3 arguments, not 2"),
        ("macro f($a) { $a } macro f(@b) { @b } BEGIN { f(1); }", "macro f() needs a map for @b"),
        ("macro f(a) { f(a, 1) } macro f(a, b) { f(a) } BEGIN { f(1); }", "expands recursively"),
        ("macro f(t) { (t *)0 } BEGIN { f(5 + 1); }", "t has to be a type"),
        ("macro f(t) { t + 1 } BEGIN { @x = f(struct foo); }", "expected a value, not a type"),
        ("BEGIN { print(uint64); }", "expected a value, not a type"),
        ("BEGIN { @x = ppid(uint64); }", "expected a value, not a type"),
        ("struct a { int x; }; BEGIN { @x = container_of(1, struct a, 5); }", "expected the name of a member"),
        ("struct a { int x; }; BEGIN { @x = container_of(1, struct a, y); }", "struct a has no field 'y'"),
        ("BEGIN { @x = container_of(1, 2, y); }", "container has to be a type"),
    ],
)
def test_macros_that_do_not_fit_are_refused(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(text)
    assert message in caught.value.plain, caught.value.plain


# What is decided while compiling


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("sizeof(uint32) == 4", 1),
        ('typeinfo(1).base_ty == "int"', 1),
        ('typeinfo("abc").full_ty', b"string[4]"),
        ("typeinfo(1).1", b"int"),
        ("typeinfo(1) == typeinfo(int64)", 1),
        ("typeinfo(1) == typeinfo(uint64)", 0),
        ('typeinfo((a=1, b="x")).base_ty', b"record"),
        ("typeinfo((uint8 *)1)", {"btf_id": 0, "base_ty": b"pointer", "full_ty": b"uint8 *"}),
        ("typeinfo(@m).base_ty", b"tuple"),
        ("config.max_strlen", 1024),
        ('config.stack_mode == "raw"', 1),
        ("config().print_maps_on_exit", 1),
        ('probetype == "special"', 1),
        ("comptime (2 + 3)", 5),
        ("if (sizeof(uint8) == 1) { 10 } else { 20 }", 10),
        ("0 ?: 7", 7),
    ],
)
def test_what_the_compiler_knows_is_constant(expression: str, value: object) -> None:
    assert _held(f"config = {{ stack_mode = raw }} BEGIN {{ @m[1] = (1, 2); @x = {expression}; }}") == value


def test_the_branch_that_a_comptime_condition_excludes_needs_no_types() -> None:
    script = """macro size(x) { if comptime is_str(x) { strlen(x) } else if comptime (is_integer(x)) { x + 1 } else {
        fail("neither") } } BEGIN { @s = size("abc"); @i = size(4); if comptime (1 > 2) { $a = "x" + 1; } }"""
    maps = checked(script).checker.maps
    assert str(maps["@s"].value) == "uint64" and str(maps["@i"].value) == "int64"
    with pytest.raises(ScriptError, match="neither"):
        checked(script.replace("size(4)", "size((1, 2))"))
    assert compiled("BEGIN { let $q; for $i : 0..100 { if comptime (0) { $q = comm; $q++; } } }").programs
    with pytest.raises(ScriptError, match="comptime needs what is known at compile time"):
        checked("BEGIN { if comptime (pid > 1) { @x = 1; } }")


@pytest.mark.parametrize(
    ("text", "taken"), [("probetype", True), ('"a"', True), ('""', False), ("typeinfo(1).full_ty", True)]
)
def test_a_text_that_is_known_may_be_a_comptime_condition(text: str, taken: bool) -> None:
    """True if it is not empty. The branch that is not taken has types that do not fit."""
    wrong, right = '@x = "text" + 1;', "@x = 1;"
    then, otherwise = (right, wrong) if taken else (wrong, right)
    assert compiled(f"BEGIN {{ if comptime ({text}) {{ {then} }} else {{ {otherwise} }} }}").programs
