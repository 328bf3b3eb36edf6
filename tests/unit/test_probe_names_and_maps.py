"""Names of attach points as text, declared maps, positional parameters as text and whole attach points."""

import pytest

from insitu.probe.layout import HASH, LRU_HASH, LRU_PERCPU_HASH, PERCPU_ARRAY, PERCPU_HASH, MapLayout
from insitu.probe.source import ScriptError
from insitu.probe.types import NamedNumber, String, Tuple

from .probe_scripts import checked, compiled


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
