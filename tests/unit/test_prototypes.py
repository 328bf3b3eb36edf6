"""Arguments and results of functions as text."""

import pytest

from insitu.symbols.libc_prototypes import libc_prototype
from insitu.symbols.prototypes import call_text, shown

ALL_ONES = (1 << 64) - 1


@pytest.mark.parametrize(
    ("kind", "word", "text", "wanted"),
    [
        ("i4", ALL_ONES, None, "-1"),
        ("i4", 1 << 32 | 5, None, "5"),  # calling conventions leave the upper half undefined
        ("u4", ALL_ONES, None, "4294967295"),
        ("u1", 0x1FF, None, "255"),
        ("i8", 1 << 63, None, str(-(1 << 63))),
        ("b", 0x100, None, "false"),
        ("c", ord("x"), None, "'x'"),
        ("c", 0xFF, None, "-1"),
        ("p", 0, None, "NULL"),
        ("p", 0x7F00, None, "0x7f00"),
        ("s", 0x7F00, 'a"b\n', '"a\\"b\\n"'),
        ("s", 0x7F00, None, "0x7f00"),
        ("s", 0, "", "NULL"),
        ("e4:0=RED,1=GREEN,-1=NONE", 1, None, "GREEN"),
        ("e4:0=RED,1=GREEN,-1=NONE", 0xFFFFFFFF, None, "NONE"),
        ("e4:0=RED", 7, None, "7"),
    ],
)
def test_a_value_is_shown_by_its_type(kind: str, word: int, text: str | None, wanted: str) -> None:
    assert shown(kind, word, text) == wanted


def test_strings_of_a_call_go_to_the_parameters_that_are_strings() -> None:
    parameters = [("number", "i4"), ("one", "s"), ("where", "p"), ("two", "s"), ("three", "s")]
    text = call_text(parameters, [7, 16, 32, 48, 64, 0], ["a", "b"])
    assert text == '7, "a", 0x20, "b", 0x40'


def test_the_table_of_libc_has_the_prototypes_of_its_manual_pages() -> None:
    fopen, lseek = libc_prototype("fopen"), libc_prototype("lseek")
    assert fopen is not None and [kind for _, kind in fopen.parameters] == ["s", "s"] and fopen.result == "p"
    assert lseek is not None and [kind for _, kind in lseek.parameters] == ["i4", "i8", "i4"]
    assert libc_prototype("no_such_function") is None
