"""Calls of user functions as lines while they are made."""

from typing import Any

import numpy as np
import polars

from insitu.symbols.prototypes import Prototype, prototype
from insitu.symbols.value_shape import Shape
from insitu.views.calls.user_lines import UserCallLines

FUNCTIONS = [
    ("main", Prototype()),
    ("work", prototype([Shape("i4", 4), Shape("s", 8)], Shape("i4", 4))),
    ("other", None),
]


def _enter(ts_ns: int, function: int, sp: int, text: str = "", *, tail: int = 0) -> dict[str, Any]:
    words = {f"a{n}": np.array([7 if n == 0 else 16 * n], np.uint64) for n in range(6)}
    head = {"ts_ns": ts_ns, "tid": 5, "f": function, "sp": sp, "tail": tail}
    columns: dict[str, Any] = {name: np.array([value], np.uint64) for name, value in head.items()} | words
    columns |= {"s0": polars.Series([text.encode()]), "s1": polars.Series([b""])}
    return {"enter_text": columns}


def _exit(ts_ns: int, sp: int, value: int = 0) -> dict[str, Any]:
    head = {"ts_ns": ts_ns, "tid": 5, "sp": sp, "seen": 1, "value": value, "more": 0}
    return {"exit": {name: np.array([each], np.uint64) for name, each in head.items()}}


def _lines(*records: dict[str, Any], depth: int = 0) -> list[str]:
    out: list[str] = []
    printer = UserCallLines(FUNCTIONS, out.append, depth=depth)
    assert not out  # before anything is attached
    printer.begin()
    for each in records:
        printer.add(each)
    printer.finish(10_000)
    return [line.rstrip("\n")[36:] for line in out[1:]]


def test_a_call_without_callees_is_one_line_and_others_enclose_theirs() -> None:
    nested = (_enter(0, 0, 1000), _enter(100, 1, 900, "it"), _exit(300, 900, 2**64 - 1), _exit(1000, 1000))
    assert _lines(*nested) == ["main() {", '  work(7, "it") = -1', "}  /* main */"]
    assert _lines(*nested, depth=1) == ["main() {", "}  /* main */"]


def test_frames_that_were_dropped_are_ended_and_what_does_not_return_is_marked() -> None:
    assert _lines(_enter(0, 0, 1000), _enter(100, 2, 900), _enter(200, 1, 900, "it"), _exit(300, 900, 3)) == [
        "main() {",
        "  other(...) (unwound)",
        '  work(7, "it") = 3',
        "} (did not return)  /* main */",
    ]


def test_a_coroutine_leaves_the_calls_of_the_first_stack_open() -> None:
    first, second = 1 << 40, 1 << 30
    records = (_enter(0, 0, first), _enter(100, 1, second, "it"), _exit(300, first), _exit(400, second, 1))
    assert _lines(*records) == ["main() {", "}  /* main */", 'work(7, "it") = 1']
