"""Types of expressions, maps and variables; and what is rejected, with the place and the nearest name."""

import pytest

from insitu.probe.aggregations import Count, Histogram, LinearHistogram
from insitu.probe.source import ScriptError
from insitu.probe.types import Integer, String, Tuple

from .probe_scripts import checked, compiled


def _map(text: str, name: str = "@x") -> tuple[Tuple | None, object]:
    entry = checked(f"BEGIN {{ {text} }}").checker.maps[name]
    return entry.key, entry.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@x = 5;", Integer(8, True)),
        ("@x = nsecs;", Integer(8, False)),
        ("@x = comm;", String(16)),
        ('@x = "abc";', String(4)),
        ('@x = "abc"; @x = comm;', String(16)),
        ("@x = count();", Count()),
        ("@x = hist(pid, 2);", Histogram(2)),
        ("@x = lhist(pid, 0, 100, 10);", LinearHistogram(0, 100, 10)),
        ('@x = (1, "a");', Tuple((Integer(8, True), String(2)))),
        ("@x++;", Integer(8, True)),
        ("@x = pid == 1 ? 1 : 2;", Integer(8, True)),
    ],
)
def test_a_map_gets_the_type_of_what_is_assigned(text: str, value: object) -> None:
    assert _map(text)[1] == value


def test_a_map_may_be_read_above_the_line_that_assigns_it() -> None:
    assert _map("if (@y) { @x = @y; } @y = nsecs;")[1] == Integer(8, False)


def test_keys_of_different_length_meet_in_the_longest() -> None:
    key, _ = _map('@x["a"] = 1; @x[comm] = 2;')
    assert key == Tuple((String(16),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@x = 1; @x = comm;", "type mismatch: @x is int64, this is string[16]"),
        ("$t = (a=1, b=2); $t = (a=1, c=2);", "$t is (a=int64, b=int64), this is (a=int64, c=int64)"),
        ("@x = (1, ksym(1)) == (1, 2);", "== cannot be applied to (int64, ksym) and (int64, int64)"),
        ("@x[1] = 1; @x[1, 2] = 1;", "@x is used with 2 keys here, and with 1"),
        ("@x = 1; @x[1] = 1;", "@x is used with 1 key here, and with none"),
        ("print(@nope);", "undefined map: @nope"),
        ("@counts[1] = 1; print(@count);", "did you mean '@counts'?"),
        ("$a = $b;", "unknown variable $b"),
        ('pritnf("x");', "unknown function pritnf(); did you mean 'printf'?"),
        ("$a = comn;", "unknown name 'comn'; did you mean 'comm'?"),
        ('printf("%d %s\\n", 1);', "the format has 2 conversions, but 1 value is given"),
        ('printf("%d", comm);', "%d wants a number, not string[16]"),
        ('printf("%s", 5);', "%s wants a string, not int64"),
        ('printf("%q", 5);', "unknown conversion %q"),
        ("count();", "count() has to be assigned to a map"),
        ("print(count());", "count() has to be assigned to a map"),
        ("$a = count();", "count() has to be assigned to a map"),
        ("@x = lhist(1, 0, 10, 0);", "the step of lhist() must be at least 1"),
        ("@x = lhist(1, 0, 1000000, 1);", "at most 1000 steps"),
        ("@x = hist(1, 9);", "0 to 5"),
        ("unroll(1000) { }", "unroll takes 1 to 100 iterations"),
        ("break;", "break outside a loop"),
        ("$a = args.x;", "has no arguments"),
        ("$a = arg0;", "arg0 is not available in a begin probe"),
        ("$a = (struct nope *)0;", "unknown type struct 'nope'"),
        ("$a = 1; $b = $a->x;", "int64 has no field 'x'"),
        ("$a = if (pid) { print(1) } else { 2 };", "this has no value to assign"),
        ("$a = { 1; };", "this has no value to assign"),
        ("$a = comm ?: 5;", "type mismatch: the other branch is string[16], this is int64"),
        ("_ = count();", "count() has to be assigned to a map"),
        ("_ = $b;", "unknown variable $b"),
        ('if (strerror(1) == "Permission deneid") { }', "no errno has the name 'Permission deneid'; did you mean"),
        ('$a = str_concat("a", 5);', "str_concat() takes strings, not int64"),
        ("$a = config.max_strln;", "this tuple has no element 'max_strln'; did you mean 'max_strlen'?"),
        ("$a = (1, 2); $b = $a.5;", "this tuple has 2 elements"),
        ('system("ls");', "system() may change the system"),
        ('emit("x", 5);', "emit() takes named values"),
        ('emit("x", (pid=5, a=1));', "every event has a column pid of its own"),
        ('emit("x", (a=1, ts_ns=nsecs));', "every event has a column ts_ns of its own"),
        (f'emit("{"x" * 101}", (a=1));', "a label is made of up to 100 letters"),
        ('emit("\u00e9", (a=1));', "a label is made of up to 100 letters"),
        ('emit("x", (a=count()));', "an event cannot hold count"),
        ('emit("x", (a=1)); emit("x", (b=1));', ':1:27: emit("x") has other fields at '),
        ('emit("x", (a=1)); emit("x", (a=1, b=1));', ':1:27: emit("x") has other fields at '),
        ('emit("x", (a=1)); emit("x", (a=comm));', 'a of emit("x") is int64 at '),
        ('emit("x", (s=kstack)); emit("x", (s=ustack));', 's of emit("x") is kstack at '),
        ('emit("x", (s=ustack)); emit("x", (s=ustack(dwarf)));', 's of emit("x") is ustack at '),
        ("print(ustack(dwarf));", "ustack(dwarf) can only be a field of emit()"),
        ("@x[ustack(dwarf)] = count();", "ustack(dwarf) can only be a field of emit()"),
        ('emit("x", (s=kstack(dwarf)));', "the kernel's own stacks are unwound by the kernel"),
        ('emit("x", (s=ustack(dwarf, 100)));', "a multiple of 8 from 512 to 16384"),
        ("exit(1, 2);", "exit() takes 0 to 1 arguments, not 2"),
        ("$a = comm + 1;", "+ cannot be applied to string[16] and int64"),
        ("@x = count(); @y = @x == comm;", "== cannot be applied to string[16]"),
        ("$a = $1 + 1;", "+ cannot be applied to string[4] and int64"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(f"BEGIN {{ {text} }}", "abc")
    assert message in str(caught.value)
    assert caught.value.rendered.count("\n") >= 2


def test_structs_of_a_script_are_laid_out_as_c_does() -> None:
    # Offsets from a C compiler on LP64: a at 0, b at 8, c at 16, bits d and e in the word at 20, f at 24.
    text = "struct S { char a; long b; int c; unsigned d:3; unsigned e:7; short f[3]; }; "
    front = checked(text + "BEGIN { $s = (struct S *)0; @x = $s->f[1]; @s = sizeof(struct S); }")
    from insitu.probe import ast
    from insitu.probe.types import Record, Space

    structures = front.checker.structures
    found = structures.resolve(ast.TypeName(front.program.span, "S", "struct"), Space.USER)
    assert isinstance(found, Record)
    fields = {name: (f.offset, f.shift, f.bits) for name, f in found.fields().items()}
    assert fields == {
        "a": (0, 0, 0),
        "b": (8, 0, 0),
        "c": (16, 0, 0),
        "d": (20, 0, 3),
        "e": (20, 3, 7),
        "f": (22, 0, 0),
    }
    assert found.size == 32


def test_a_struct_may_point_to_itself() -> None:
    front = checked("struct N { struct N *next; int v; }; BEGIN { $n = (struct N *)0; @x = $n->next->next->v; }")
    assert front.checker.maps["@x"].value == Integer(8, True)


@pytest.mark.parametrize("status", ["256", "-1", "1 << 40", "$1"])
def test_a_constant_exit_status_is_one_that_a_process_can_have(status: str) -> None:
    with pytest.raises(ScriptError, match="an exit status is 0 to 255, not"):
        checked(f"BEGIN {{ exit({status}); }}", "300")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('with ($x : @a[1]) { $x.1 = "longer"; }', "this element is string[4]: string[7] does not fit"),
        ("with ($x : @a[1]) { $x = (1, 2); }", "this element is (int64, string[4]): (int64, int64) does not fit"),
        ("with ($x : @a[1]) { } $x.0 = 1;", "$x is out of scope"),
        ("$t = (1, 2); $t.0 = 3;", "only members of tuples that are elements of maps can be assigned to"),
        ("$t.0 = 3;", "unknown variable $t"),
        ("with ($x : @a) { }", "with takes an element of a map, such as @map[key]"),
        ("with ($x : @c[1]) { }", "@c holds count: it has no element to assign to"),
        ("with ($x : @no[1]) { }", "undefined map: @no"),
    ],
)
def test_what_is_assigned_to_an_element_in_place_has_to_fit(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(f'BEGIN {{ @a[1] = (5, "abc"); @c[1] = count(); {text} }}')
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["@b", "{ @b }", "{ let $y = 1; @b }"])
def test_a_map_of_histograms_is_not_copied_to_a_variable(value: str) -> None:
    with pytest.raises(ScriptError, match="@b holds hist: it cannot be copied"):
        checked(f"BEGIN {{ @b = hist(5); $x = {value}; }}")


def test_too_many_arguments_are_not_called_too_few() -> None:
    with pytest.raises(ScriptError, match=r"printf\(\) takes at most 99 arguments, not 602"):
        checked('BEGIN { printf("%d"' + ", 1" * 601 + "); }")
    with pytest.raises(ScriptError, match=r"printf\(\) takes at least 1 argument"):
        checked("BEGIN { printf(); }")


def test_macros_are_expanded_with_variables_of_their_own() -> None:
    front = checked("macro twice(a) { $t = a; $t * 2 } BEGIN { $t = 5; @x = twice($t + 1); @y = $t; }")
    assert {"@x", "@y"} <= set(front.checker.maps)
    with pytest.raises(ScriptError, match="expands recursively"):
        checked("macro f(a) { f(a) } BEGIN { @x = f(1); }")
    with pytest.raises(ScriptError, match="takes 1 argument, not 2"):
        checked("macro f(a) { a } BEGIN { @x = f(1, 2); }")


def test_kinds_of_probes_may_be_written_in_any_case() -> None:
    (clause,) = checked("Interval:ms:5 { }").clauses
    assert (clause.points[0].kind, clause.points[0].name) == ("interval", "interval:ms:5")


def test_a_map_with_keys_has_the_type_of_a_key_in_typeof() -> None:
    script = "let $k : typeof(@m) = comm; let $p : typeof(@pair); let $v : typeof(@plain) = 1;"
    found = checked(f'BEGIN {{ @m["a"] = 1; @pair[1, "b"] = 2; @plain = 3; {script} }}').checker.variables
    assert {name: str(kind) for name, kind in found.items()} == {
        "$k": "string[16]",
        "$p": "(int64, string[2])",
        "$v": "int64",
    }


def test_settings_of_a_config_block_are_checked() -> None:
    assert checked("config = { max_map_keys = 10; } BEGIN { }").checker.options.max_map_keys == 10
    with pytest.raises(ScriptError, match="unknown setting"):
        checked("config = { nonsense = 1; } BEGIN { }")


def test_an_aggregation_is_counted_where_a_block_or_macro_ends_with_it() -> None:
    unit = checked("macro counted() { count() } BEGIN { @a = { $n = 2; sum($n) }; @b = counted(); }")
    assert [str(unit.checker.maps[name].value) for name in ("@a", "@b")] == ["sum", "count"]


def test_an_aggregation_cannot_be_chosen() -> None:
    with pytest.raises(ScriptError, match="count\\(\\) has to be assigned to a map directly"):
        checked("BEGIN { @a = pid ? count() : count(); }")


@pytest.mark.parametrize(
    "statement",
    [
        "@c[1, 2] = count(); let $v; find(@c, (1, 2), $v);",
        "comm();",
        '(pid ? "text" : comm);',
        "{ comm };",
        "@a = { count() };",
    ],
)
def test_odd_statements_compile(statement: str) -> None:
    assert compiled(f"BEGIN {{ {statement} }}").programs[0].code


def test_args_may_be_written_as_a_call() -> None:
    with pytest.raises(ScriptError, match="has no arguments"):
        checked("BEGIN { args(); }")
