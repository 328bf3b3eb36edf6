"""Arguments and results of functions as text."""

import os

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
    assert call_text(found, Recorded([7, 16, 32, 48, 64, 0], [b"a", b"b"])) == '7, "a", 0x20, "b", 0x40'
    # The first text is at what register 2 holds, the second at what 4 does; of the result there is none.
    assert captures(found) == (2 | 4 << 12, 0)


def _kinds(found: Prototype) -> list[str]:
    return [each.shape.kind for each in (*found.parameters, found.result)]


def test_the_table_of_libc_has_the_prototypes_of_its_manual_pages() -> None:
    fopen, lseek = libc_prototype("fopen"), libc_prototype("lseek")
    assert fopen is not None and _kinds(fopen) == ["s", "s", "p"]
    assert lseek is not None and _kinds(lseek) == ["i4", "i8", "i4", "i8"]
    assert libc_prototype("no_such_function") is None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 calling convention")
def test_arguments_of_a_format_are_shown_by_it() -> None:
    printf, snprintf = libc_prototype("printf"), libc_prototype("snprintf")
    assert printf is not None and snprintf is not None
    # printf("%*d %lu %c %f %s %d %d", 5, -1, 2^63, 'x', 1.5, 0x70, 6, 7): the last integers are on the stack.
    words = [0x10, 5, ALL_ONES, 1 << 63, ord("x"), 0x70]
    stack = (6).to_bytes(8, "little") + (7).to_bytes(8, "little")
    text = call_text(printf, Recorded(words, [b"%*d %lu %c %f %s %d %d", b""], [stack.ljust(64, b"\0")]))
    assert text == f"\"%*d %lu %c %f %s %d %d\", 5, -1, {1 << 63}, 'x', <in xmm0>, 0x70, 6, 7"
    # What could not be read is not shown as anything.
    assert call_text(printf, Recorded(words, [None, None], [None])) == "0x10, ..."
    late = call_text(printf, Recorded(words, [b"", b""], [None], b"%d\n"))
    assert late == '"%d\\n", 5'


def test_what_a_function_puts_into_a_buffer_is_shown_as_far_as_its_result_says() -> None:
    read = libc_prototype("read")
    assert read is not None
    for result, shown in ((3, '"abc"'), (0, '""'), (ALL_ONES, '""')):
        recorded = Recorded([3, 0x40, 64, 0, 0, 0], [], [], None, b"abc of before\0", result)
        assert call_text(read, recorded) == f"3, {shown}, 64"
    assert call_text(read, Recorded([3, 0x40, 64, 0, 0, 0])) == "3, 0x40, 64"  # it has not returned
    assert captures(read) == (2 << 60, 0)  # what register 2 holds at the entry is read at the return
