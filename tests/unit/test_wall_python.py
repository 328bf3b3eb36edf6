"""Python functions in the stacks of waits, and time that is divided among them."""

import pytest

from insitu.convert.wall_python import divided, python_waits, with_python
from insitu.symbols.frame import PYTHON, Frame

_SLEEP = Frame("time_sleep", "/usr/bin/python3.11")
_EVALUATION = Frame("_PyEval_EvalFrameDefault", "/usr/bin/python3.11")
_READ = Frame("read", "/lib/libc.so.6")
_NAP = Frame("nap", "/app.py", "/app.py", 5, kind=PYTHON)


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ((_SLEEP, _EVALUATION, Frame("main")), (_SLEEP, _NAP)),
        ((_READ, Frame("[python3.11]", "/usr/bin/python3.11")), (_READ, _NAP)),
        ((_READ,), (_READ, _NAP)),
        ((), (_NAP,)),
    ],
)
def test_functions_of_python_are_in_place_of_the_interpreter_that_runs_them(
    user: tuple[Frame, ...], found: tuple[Frame, ...]
) -> None:
    assert with_python(user, (_NAP,)) == found
    assert with_python(user, ()) == user


def test_time_is_divided_by_how_often_a_stack_was_seen_and_adds_up() -> None:
    assert divided(100, [3, 1]) == [75, 25]
    assert divided(1, [1, 1, 1]) == [0, 0, 1]
    for total in range(50):
        assert sum(divided(total, [3, 5, 1, 7])) == total


def test_what_was_read_is_found_by_its_place() -> None:
    data = b'{"stacks": [[["nap", "/app.py", 5]], []], "waits": [[1024, 0, 3], [1024, 1, 1], [-7, 0, 2]]}'
    assert python_waits(data) == {1024: [((_NAP,), 3), ((), 1)], -7: [((_NAP,), 2)]}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"stacks": [[["nap", 5, 5]]], "waits": []}', b'{"stacks": ' + b"[" * 100_000]
)
def test_what_is_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"python\.json"):
        python_waits(data)


def test_places_without_a_stack_are_left_out() -> None:
    assert python_waits(b'{"stacks": [], "waits": [[1, 0, 1], [2, -1, 1]]}') == {}
