"""What multiplies or is too large in a script is refused, with the limit; what is only long compiles."""

import re
from pathlib import Path

import pytest

from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.source import ScriptError, Source
from insitu.probe.types import INT64

from .probe_scripts import NoKernel, checked, compiled


def _refused(text: str) -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        compiled(text)
    return caught.value


# What multiplies. Each of these would have at least 2**39 nodes, lines or elements.


def test_defines_that_multiply_are_refused_at_their_use() -> None:
    text = "#define A0 1\n" + "".join(f"#define A{n} A{n - 1}+A{n - 1}\n" for n in range(1, 60))
    error = _refused(text + "BEGIN { @x = A59; }")
    assert re.fullmatch(r"in #define A\d+: #defines add more than 100000 names and numbers .*", error.plain)
    assert error.span.start == len(text) + len("BEGIN { @x = ")
    assert checked(text + "BEGIN { @x = A12; }").checker.maps["@x"].value == INT64


def test_an_error_in_a_define_names_the_one_that_has_it() -> None:
    error = _refused("#define A 1 +\n#define B A\n#define C B\nBEGIN { @x = C; }")
    assert error.plain == "in #define A: unexpected end of script, expected an expression"


def test_nested_unrolls_are_bounded_together() -> None:
    error = _refused("BEGIN { " + "unroll (100) { " * 6 + "@x = 1;" + "}" * 6 + "}")
    assert error.plain.startswith("the script is too large: its probes take more than 1000000 lines")


def test_blocks_with_values_may_nest() -> None:
    blocks = "BEGIN { $x = " + "{" * 200 + "7" + "}" * 200 + "; @x = $x; }"
    assert checked(blocks).checker.maps["@x"].value == INT64
    branches = "BEGIN { $x = " + "{ if (pid) " * 60 + "{ 1 }" + " else { 2 } }" * 60 + "; @x = $x; }"
    assert checked(branches).checker.maps["@x"].value == INT64


@pytest.mark.parametrize("cast", ["(int {})0", "(struct s {})0", "(foo {})0"])
def test_a_type_has_a_limited_number_of_stars(cast: str) -> None:
    error = _refused("struct s { int a; }; BEGIN { $x = " + cast.format("*" * 20_000) + "; }")
    assert "levels deep" in error.plain or error.plain == "more than 16 * in a type"


def test_conditions_of_the_preprocessor_nest_a_limited_number_of_times() -> None:
    assert checked("#if 1\n" * 250 + "#endif\n" * 250 + "BEGIN { @x = 1; }").checker.maps
    error = _refused("#if 1\n" * 251 + "#endif\n" * 251 + "BEGIN { @x = 1; }")
    assert error.plain == "#if nested more than 250 levels deep"


@pytest.mark.parametrize("first", ["(1, 2)", "()", "(comm, 1)"])
def test_tuples_of_tuples_have_a_limited_number_of_elements(first: str) -> None:
    doubled = " ".join(f"$t{n} = ($t{n - 1}, $t{n - 1});" for n in range(1, 40))
    error = _refused(f"BEGIN {{ $t0 = {first}; {doubled} @x = $t39; }}")
    assert error.plain == "a tuple may have 1024 elements, those of tuples in it counted"


def test_keys_that_loops_over_maps_double_have_a_limited_number_of_elements() -> None:
    loops = " ".join(f"for ($v{n} : @m{n}) {{ @m{n + 1}[$v{n}] = $v{n}; }}" for n in range(40))
    assert "1024 elements" in _refused(f"BEGIN {{ @m0[1] = 1; {loops} }}").plain


# Sizes: what does not fit in 64 bits, and more than 1 GiB.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BEGIN { @x = sizeof(int[4294967296][1073741824]); }", "an array of 4294967296 bytes is too large"),
        ("BEGIN { @x = sizeof(int[4611686018427387904]); }", "an array of 18446744073709551616 bytes is too large"),
        ("struct s { int a[4611686018427387904]; }; BEGIN { @x = sizeof(struct s); }", "18446744073709551616 bytes"),
        ("struct s { int *a[4611686018427387904]; }; BEGIN { @x = sizeof(struct s); }", "36893488147419103232 bytes"),
        ("struct s { char a[0x4000000000000000]; }; BEGIN { @x = sizeof(struct s); }", "4611686018427387904 bytes"),
        (
            "struct s { }; BEGIN { @x = sizeof(struct s[5000000000]); }",
            "an array of 5000000000 elements is",
        ),
        (
            "BEGIN { @x = (uint8[8589934592])1; }",
            "8589934592 bytes is too large (limit 1073741824 bytes)",
        ),
        ("BEGIN { let $x : string[8589934592]; $x = comm; }", "an array of 8589934592 bytes is"),
        (
            "macro m(t) { sizeof(t[8589934592]) } BEGIN { @x = m(uint8); }",
            "an array of 8589934592 bytes is",
        ),
        ("struct s { char a[1 << 30]; char b; }; BEGIN { @x = sizeof(struct s); }", "this struct is too large"),
        ("enum e { N = -5 }; struct s { int a[N]; }; BEGIN { @x = sizeof(struct s); }", "cannot have -5 elements"),
        ("typedef int t[-1]; BEGIN { @x = sizeof(t); }", "an array cannot have -1 elements"),
        ("BEGIN { @x = sizeof(char[-1]); }", "an array cannot have -1 elements"),
        ("enum e { A = 0xffffffffffffffff, B }; BEGIN { @x = 1; }", "B is 18446744073709551616, which 64 bits"),
    ],
)
def test_types_that_are_too_large_are_refused(text: str, message: str) -> None:
    assert message in _refused(text).plain


def test_types_of_up_to_1_gib_have_their_size() -> None:
    checker = checked("BEGIN { if comptime (sizeof(int[268435456]) == 1073741824) { @right = 1; } }").checker
    assert "@right" in checker.maps


# What is long. With work that grows with the square, each of these would take minutes.


def test_long_scripts_compile() -> None:
    enumerators = ", ".join(f"A{n}" for n in range(20_000))
    uses = " ".join(f"@x = A{n};" for n in range(0, 20_000, 10))
    assert checked(f"enum e {{ {enumerators} }}; BEGIN {{ {uses} }}").checker.maps
    functions = " ".join(f"fn f{n}($a : int64) : int64 {{ return $a; }}" for n in range(2_000))
    assert checked(f"{functions} BEGIN {{ @x = 1; }}").checker.maps
    body = "\n".join(f"if (pid == {n}) {{ @x = {n}; }}" for n in range(8_000))
    assert compiled(f"BEGIN {{ {body} }}").programs[0].further


@pytest.mark.parametrize(("lines", "quoted"), [(100, True), (3000, False)])
def test_the_lines_of_a_long_script_are_not_quoted_to_the_verifier(tmp_path: Path, lines: int, quoted: bool) -> None:
    script = tmp_path / "script.bt"
    script.write_text("BEGIN {\n" + "".join(f"@x = {n};\n" for n in range(lines)) + "}\n")
    program = compile_script(Source(script.read_text(), str(script)), Options(), NoKernel())
    assert (b"@x = 7;" in program.btf) == quoted


@pytest.mark.parametrize(
    "point", ["interval:s:{}", "software:cpu:{}", "uprobe:/bin/true:{}", "uprobe:/bin/true:f+{}"]
)
def test_numbers_of_thousands_of_digits_are_none(point: str) -> None:
    with pytest.raises(ScriptError):
        checked(point.format("9" * 5000) + " { }")
