"""Files of wall-time recordings that somebody has forged."""

import pytest

from insitu.convert.wall_causes import waiting_threads


def test_waiting_threads_are_calls_paths_and_states_by_tid() -> None:
    assert waiting_threads(b'{"5": [7, "pipe:[1]", 1], "6": [-1, "", 2]}') == {5: (7, "pipe:[1]", 1), 6: (-1, "", 2)}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"1": ' * 200_000,
        '{"1": [' + "9" * 6000 + ', "", 1]}',
        '{"1": [0, "\\ud800", 1]}',
        '{"1": [1]}',
        '{"x": [1, "", 1]}',
        "[]",
        "",
    ],
)
def test_forged_waiting_threads_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"waiting\.json: ") as caught:
        waiting_threads(text.encode())
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_the_path_of_a_waiting_thread_is_at_most_as_long_as_the_kernel_has_them() -> None:
    ((_, path, _),) = waiting_threads(b'{"1": [0, "' + b"x" * 100_000 + b'", 1]}').values()
    assert len(path) == 4096
