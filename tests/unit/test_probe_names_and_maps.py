"""Names of attach points as text, declared maps, positional parameters as text and whole attach points."""

import pytest

from insitu.probe.layout import HASH, LRU_HASH, LRU_PERCPU_HASH, PERCPU_ARRAY, PERCPU_HASH, MapLayout
from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.source import ScriptError, Source
from insitu.probe.types import NamedNumber, String, Tuple

from .probe_scripts import NoKernel, checked, compiled


def _map(script: str, name: str = "@m") -> MapLayout:
    return next(each for each in compiled(script).layout.maps if each.name == name)


@pytest.mark.parametrize(
    ("declared", "use", "kind", "entries"),
    [
        ("hash(5)", "@m[1] = 1", HASH, 5),
        ("lruhash(100)", "@m[comm] = pid", LRU_HASH, 100),
        ("percpuhash(7)", "@m[1] = count()", PERCPU_HASH, 7),
        ("percpulruhash(1e3)", "@m[1] = hist(1)", LRU_PERCPU_HASH, 1000),
        ("percpuarray(1)", "@m = sum(1)", PERCPU_ARRAY, 1),
    ],
)
def test_a_declared_map_has_the_kind_and_size_that_it_is_declared_with(
    declared: str, use: str, kind: int, entries: int
) -> None:
    found = _map(f"let @m = {declared}; BEGIN {{ {use}; @other[1] = 1; }}")
    assert (found.type, found.max_entries) == (kind, entries)
    assert _map(f"let @m = {declared}; BEGIN {{ {use}; @other[1] = 1; }}", "@other").max_entries == 4096


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("let @m = lru(1); BEGIN { @m[1] = 1; }", "unknown kind of map 'lru'; did you mean 'lruhash'?"),
        ("let @m = hash(0); BEGIN { @m[1] = 1; }", "the size of hash is 1 to 16777216"),
        ("let @m = percpuarray(2); BEGIN { @m = count(); }", "the size of percpuarray is 1"),
        ("let @m = hash(1); let @m = hash(1); BEGIN { }", "@m is declared twice"),
        ("let @m = hash(9); BEGIN { @m[1] = count(); }", "@m is declared hash, but holds count"),
        ("let @m = percpuhash(9); BEGIN { @m[1] = 1; }", "@m is declared percpuhash, but holds int64"),
        ("let @m = percpuarray(1); BEGIN { @m[1] = count(); }", "which has no keys"),
        ("BEGIN { } let @m = hash(1);", "maps must be declared before the first probe"),
        ("let @m; BEGIN { }", "expected '='"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(script: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in str(caught.value)


def test_names_of_attach_points_are_text_where_text_is_wanted() -> None:
    maps = checked(
        'BEGIN { @a = "x"; @a = probe; @b = cpu == 1 ? "a" : func; @c = probe; @d = strlen(func); @e = func == @a; }'
    ).checker.maps
    assert maps["@a"].value == maps["@b"].value == String(8)  # "BEGIN" and its zero, in words
    assert maps["@c"].value == NamedNumber("probe", 8)


def test_functions_and_kernel_symbols_share_a_map_but_are_not_compared() -> None:
    maps = checked("BEGIN { @m[func] = 1; @m[ksym(5)] = 2; }").checker.maps
    assert maps["@m"].key == Tuple((NamedNumber("ksym"),))
    with pytest.raises(ScriptError, match="== cannot compare func with ksym"):
        checked("BEGIN { @a = func == ksym(5); }")
    with pytest.raises(ScriptError, match="!= cannot compare username with string"):
        checked('BEGIN { @a = username != "root"; }')


@pytest.mark.parametrize(
    ("script", "parameters", "points"),
    [
        ("$1 { }", ["interval:ms:100"], ["interval:ms:100"]),
        ("$1,interval:$2:$3 { }", ["BEGIN", "s", "1e1"], ["BEGIN", "interval:s:10"]),
        ("interval:$1 { }", ["us:5"], ["interval:us:5"]),
    ],
)
def test_positional_parameters_are_parts_of_attach_points_or_whole_ones(
    script: str, parameters: list[str], points: list[str]
) -> None:
    assert [point.name for clause in checked(script, *parameters).clauses for point in clause.points] == points


def test_a_positional_parameter_that_is_no_number_is_text_and_any_is_where_text_is_wanted() -> None:
    maps = checked(
        "BEGIN { @text = $1; @number = $2; @missing = $3; @same = comm == $2; @long = strlen($2);"
        ' printf("%s %s %d", $2, $3, $3); }',
        "abc",
        "12",
    ).checker.maps
    assert [str(maps[name].value) for name in ("@text", "@number", "@missing")] == ["string[4]", "int64", "int64"]


def test_text_given_to_a_script_may_name_what_is_looked_up_at_compile_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insitu.symbols.kallsyms.symbol_address", lambda name: {"some_symbol": 64}.get(name))
    for argument in ("str($1)", "$1", 'str("some_symbol")', "str($2 + 1)"):
        checked(f"BEGIN {{ @a = kaddr({argument}); }}", "some_symbol", "_some_symbol")
    with pytest.raises(ScriptError, match="no kernel symbol 'some'"):
        checked("BEGIN { @a = kaddr(str($1, 4)); }", "some_symbol")


def test_text_is_cast_to_an_array_of_its_bytes() -> None:
    maps = checked('BEGIN { @a = (int8[])"hello"; @b = (uint8[3])"hello"; @c = (uint16[])comm; }').checker.maps
    assert [str(maps[name].value) for name in ("@a", "@b", "@c")] == ["int8[6]", "uint8[3]", "uint16[8]"]
    with pytest.raises(ScriptError, match=r"string\[6\] cannot be cast to int8\[7\]: it has 6 bytes"):
        checked('BEGIN { @a = (int8[7])"hello"; }')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('debugf("%d")', "the format has 1 conversion, but 0 values are given"),
        ('debugf("%d %d %d %d", 1, 2, 3, 4)', "at most 3 values"),
        ('debugf("%5d", 1)', "the kernel does not print this conversion"),
        ('debugf("%s", 1)', "%s wants a string, not int64"),
        ('debugf("%d", comm)', "%d wants a number, not string"),
    ],
)
def test_debugf_takes_what_the_kernel_prints(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        run_passes(Unit(Source(f"BEGIN {{ {text}; }}"), Options(unsafe=True), NoKernel()))
    assert message in str(caught.value)
    with pytest.raises(ScriptError, match="debugf\\(\\) may change the system"):
        checked('BEGIN { debugf("x"); }')
