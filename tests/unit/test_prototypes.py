"""Arguments and results of functions as text."""

import pytest

from insitu.symbols.libc_prototypes import libc_prototype
from insitu.symbols.prototypes import Prototype, Recorded, call_text, captures, prototype
from insitu.symbols.shape_text import scalar_text
from insitu.symbols.value_shape import Shape

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
    assert scalar_text(kind, word, text) == wanted


def test_strings_of_a_call_go_to_the_parameters_that_are_strings() -> None:
    number, text, pointer = Shape("i4", 4), Shape("s", 8), Shape("p", 8)
    found = prototype([number, text, pointer, text, text], number)
    assert call_text(found, Recorded([7, 16, 32, 48, 64, 0], ["a", "b"])) == '7, "a", 0x20, "b", 0x40'
    # The first text is at what register 2 holds, the second at what 4 does; of the result there is none.
    assert captures(found) == (2 | 4 << 12, 0)


def _kinds(found: Prototype) -> list[str]:
    return [each.shape.kind for each in (*found.parameters, found.result)]


def test_the_table_of_libc_has_the_prototypes_of_its_manual_pages() -> None:
    fopen, lseek = libc_prototype("fopen"), libc_prototype("lseek")
    assert fopen is not None and _kinds(fopen) == ["s", "s", "p"]
    assert lseek is not None and _kinds(lseek) == ["i4", "i8", "i4", "i8"]
    assert libc_prototype("no_such_function") is None
