"""The text of a recorded call taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.views.syscalls.session_events import split_arguments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("NULL", ["NULL"]),
        ('AT_FDCWD, "/etc/ld.so.cache", O_RDONLY', ["AT_FDCWD", '"/etc/ld.so.cache"', "O_RDONLY"]),
        ('"a, b\\", c"..., 3', ['"a, b\\", c"...', "3"]),
        ('"\\\\", 3', ['"\\\\"', "3"]),
        (
            '"/bin/sh", ["sh", "-c", "x, y"], 0x1 /* 3 vars */',
            ['"/bin/sh"', '["sh", "-c", "x, y"]', "0x1 /* 3 vars */"],
        ),
        ("3, {st_mode=S_IFREG|0644, st_size=9, ...}, 0", ["3", "{st_mode=S_IFREG|0644, st_size=9, ...}", "0"]),
        ("3</a, b>, [{fd=3, events=POLLIN}], 1", ["3</a, b>", "[{fd=3, events=POLLIN}]", "1"]),
        ("[4] => [16], makedev(0x1, 0x3), 5", ["[4] => [16]", "makedev(0x1, 0x3)", "5"]),
        ("3<TCP:[127.0.0.1:1->127.0.0.1:2]>, 1", ["3<TCP:[127.0.0.1:1->127.0.0.1:2]>", "1"]),
    ],
)
def test_arguments_are_split_at_commas_outside_of_quotes_and_brackets(text: str, expected: list[str]) -> None:
    assert split_arguments(text) == expected


@given(st.text(max_size=80))
def test_nothing_of_any_text_is_lost(text: str) -> None:
    assert ", ".join(split_arguments(text)) == text
