"""Text to tree: precedence, attach points, definitions, and errors that show the place."""

from pathlib import Path

import pytest

from insitu.probe import ast
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.source import ScriptError, Source


def _program(text: str, *parameters: str) -> ast.Program:
    return parse(Source(text), list(parameters))


def _value(text: str) -> ast.Expression:
    (statement,) = _program(f"BEGIN {{ $x = {text}; }}").probes[0].body.statements
    assert isinstance(statement, ast.Assign)
    return statement.value


def _shape(node: ast.Expression) -> str:
    """An expression with every operation in parentheses."""
    match node:
        case ast.Integer(value=value):
            return str(value)
        case ast.Binary(operator=operator, left=left, right=right):
            return f"({_shape(left)} {operator} {_shape(right)})"
        case ast.Unary(operator=operator, operand=operand):
            return f"({operator}{_shape(operand)})"
        case ast.Ternary(condition=condition, true=true, false=false):
            return f"({_shape(condition)} ? {_shape(true)} : {_shape(false)})"
        case ast.Identifier(name=name):
            return name
    return type(node).__name__


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("1 | 2 ^ 3 & 4", "(1 | (2 ^ (3 & 4)))"),
        ("1 << 2 + 3 < 4 == 5", "(((1 << (2 + 3)) < 4) == 5)"),
        ("1 || 2 && 3", "(1 || (2 && 3))"),
        ("!pid == 1", "((!pid) == 1)"),
        ("1 ? 2 : 3 ? 4 : 5", "(1 ? 2 : (3 ? 4 : 5))"),
        ("-5 - -3", "(-5 - -3)"),
        ("~pid & 0xff", "((~pid) & 255)"),
        ("(1 + 2) * 3", "((1 + 2) * 3)"),
    ],
)
def test_operators_bind_as_in_c(text: str, shape: str) -> None:
    assert _shape(_value(text)) == shape


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x1F", 31), ("017", 15), ("1e6", 1_000_000), ("1_000", 1000), ("5ul", 5), ("2ms", 2_000_000), ("'A'", 65)],
)
def test_numbers_may_be_written_in_every_form_of_the_language(text: str, value: int) -> None:
    assert _value(text).value == value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("BEGIN {}", ("BEGIN",)),
        ("tracepoint:syscalls:sys_enter_open* {}", ("tracepoint", "syscalls", "sys_enter_open*")),
        ("uprobe:/bin/sh:main {}", ("uprobe", "/bin/sh", "main")),
        ("uprobe:/bin/sh:main+8 /pid == 1/ {}", ("uprobe", "/bin/sh", "main+8")),
        ("k:vfs_read/pid == 1/ {}", ("k", "vfs_read")),
        ('uprobe:/bin/sh:"a::b(int, char)" {}', ("uprobe", "/bin/sh", "a::b(int, char)")),
        ("interval:s:$1 {}", ("interval", "s", "7")),
        ("start=BEGIN {}", ("BEGIN",)),
        ("Uprobe:/bin/sh:main {}", ("Uprobe", "/bin/sh", "main")),
        ("kprobe@fs/open.c:12 /pid == 1/ {}", ("kprobe", "@fs/open.c", "12")),
        ("k@open.c:$1/pid == 1/ {}", ("k", "@open.c", "7")),
    ],
)
def test_attach_points_are_split_at_their_colons(text: str, parts: tuple[str, ...]) -> None:
    assert _program(text, "7").probes[0].attach_points[0].parts == parts


def test_a_division_does_not_end_a_predicate() -> None:
    probe = _program("BEGIN /pid / 2 == 1/ { @[1 / 2] = 1; }").probes[0]
    assert probe.predicate is not None
    assert _shape(probe.predicate) == "((pid / 2) == 1)"


def test_preprocessor_lines_choose_and_define_without_moving_what_follows() -> None:
    text = (
        "#include <linux/x.h>\n#ifndef BPFTRACE_HAVE_BTF\nnonsense\n#else\n#define N 5\n#endif\nBEGIN { $x = N + ; }"
    )
    with pytest.raises(ScriptError) as caught:
        _program(text)
    assert caught.value.source.line_column(caught.value.span.start) == (7, 18)


def test_a_struct_keeps_bit_fields_arrays_and_inner_structs() -> None:
    text = "struct A { int a:3, b; char *c[4]; struct { long d; }; enum { X, Y = 5, Z } e; }; BEGIN { }"
    (structure,) = _program(text).structures
    names = [field.name for field in structure.fields]
    assert names == ["a", "b", "c", "", "e"]
    assert structure.fields[0].bits == 3
    inner = structure.fields[4].declared
    assert isinstance(inner, ast.Structure) and inner.values == [("X", 0), ("Y", 5), ("Z", 6)]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('BEGIN { printf("a" 5); }', 1, 20, "expected ',' or ')'"),
        ("BEGIN {\n  $x = 1\n  $y = 2;\n}", 3, 3, "expected ';' or '}'"),
        ("BEGIN { @x = ; }", 1, 14, "expected an expression"),
        ("BEGIN { if (1) { }", 1, 19, "unexpected end of script"),
        ('BEGIN { $x = "abc }', 1, 14, "unterminated string"),
        ("BEGIN { 5 = 6; }", 1, 9, "only $variables and @maps"),
        ("", 1, 1, "no probe"),
        ("BEGIN { $x = 99999999999999999999999; }", 1, 14, "does not fit in 64 bits"),
        ("interval:s:$1 { }", 1, 12, "positional parameter $1 is not given"),
        ("BEGIN /* open", 1, 7, "unterminated comment"),
        ("#if X\nBEGIN {}", 1, 1, "#if without #endif"),
        ("BEGIN { $x = if (1) { 2 }; }", 1, 26, "'else': an if used as a value needs both branches"),
        ("BEGIN { _ += 1; }", 1, 9, "only $variables and @maps"),
        ("BEGIN { $x = 1 ?: ; }", 1, 19, "expected an expression"),
    ],
)
def test_an_error_shows_its_place_and_what_was_expected(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        _program(text)
    assert message in str(caught.value)
    assert caught.value.source.line_column(caught.value.span.start) == (line, column)


def test_the_caret_stands_under_the_culprit_after_tabs_too() -> None:
    with pytest.raises(ScriptError) as caught:
        _program("BEGIN {\n\t\t@x = ;\n}")
    excerpt = caught.value.rendered.splitlines()
    assert excerpt[1] == "\t\t@x = ;"
    assert excerpt[2] == "\t\t     ^"


@pytest.mark.parametrize("opening", ["(", "{ if (1) ", "-", "!", "@x[", "comptime ", "1 ?: ", "if 1 {"])
def test_nesting_without_end_is_an_error_not_a_crash(opening: str) -> None:
    with pytest.raises(ScriptError):
        _program("BEGIN { $x = " + opening * 100_000)
    with pytest.raises(ScriptError):
        _program("BEGIN " + "{ if (1) " * 100_000)


def test_a_long_chain_of_operators_is_an_error_not_a_crash() -> None:
    with pytest.raises(ScriptError, match="operators in a row"):
        _program("BEGIN { $x = 1" + " + 1" * 10_000 + "; }")


@pytest.mark.parametrize("path", sorted(Path("/usr/sbin").glob("*.bt")), ids=lambda path: path.name)
def test_bpftraces_own_tools_parse(path: Path) -> None:
    assert parse(Source(path.read_text(), path.name), ["1"]).probes


def test_a_script_of_5000_lines_parses() -> None:
    lines = "".join(f'  if (pid == {n}) {{ @[{n}, "k"] = count(); }}\n' for n in range(5000))
    program = _program("BEGIN {\n" + lines + "}")
    assert len(program.probes[0].body.statements) == 5000
