"""Names in trace events are the bytes beside the threads' numbers, whatever names were in earlier events."""

import numpy as np
import pytest

from insitu.convert.thread_names import ThreadNames


def rows(names: list[str]) -> np.ndarray:
    return np.frombuffer(b"".join(name.encode().ljust(16, b"\0") for name in names), np.uint8).reshape(-1, 16)


def test_names_follow_a_thread_that_is_renamed_and_idle_threads_of_several_cpus() -> None:
    found = ThreadNames()
    for tids, names in (
        ([0, 0, 7], ["swapper/0", "swapper/1", "sh"]),
        ([7, 0, 7], ["sh", "swapper/1", "make"]),
        ([7, -1, 1 << 30], ["make", "", "sixteen bytes ok"]),
        ([], []),
    ):
        assert found.coded(np.array(tids, np.int32), rows(names)).tolist() == names
    assert found.first == {0: "swapper/0", 7: "sh", -1: "", 1 << 30: "sixteen bytes ok"}


@pytest.mark.parametrize("count", [300, 20_000])
def test_many_names_are_all_found(count: int) -> None:
    """20,000 are more than are kept, and many share a place in the table."""
    found = ThreadNames()
    numbers = np.random.default_rng(1).permutation(count)
    for part in np.array_split(np.concatenate([numbers, numbers]), 40):
        names = [f"worker {number}" for number in part.tolist()]
        assert found.coded(part.astype(np.int32) + 1, rows(names)).tolist() == names
    assert found.first == {number + 1: f"worker {number}" for number in range(count)}
