"""Threads under the session's own ids, and the look-up of values that repeat."""

import numpy as np
import pytest

from insitu.session.distinct import distinct
from insitu.session.identities import Identities


def _utids(known: Identities, *rows: tuple[int, int]) -> list[int]:
    tid, ts_ns = zip(*rows, strict=True)
    return known.utids(np.array(tid, np.int32), np.array(ts_ns, np.int64)).tolist()


def test_a_tid_that_is_used_again_is_another_thread_also_after_the_first_was_asked_for() -> None:
    known = Identities()
    first = known.thread(7, known.process(7), 10)
    other = known.thread(8, known.process(8), 10)
    assert _utids(known, (7, 20), (8, 20), (0, 20)) == [first, other, 0]
    second = known.thread(7, known.process(7, 100), 100)
    assert _utids(known, (7, 20), (7, 100), (8, 120)) == [first, second, other]
    assert second not in (first, other)


def test_an_unknown_thread_has_one_id_whenever_it_is_asked_for() -> None:
    known = Identities()
    found = _utids(known, (5, 1), (6, 1), (5, 2))
    assert found[0] == found[2] != found[1]
    assert _utids(known, (6, 9), (5, 9)) == [found[1], found[0]]
    assert _utids(known, (-3, 1), (2**31 - 1, 1), (-3, 2))[::2] == _utids(known, (-3, 5), (-3, 6))


@pytest.mark.parametrize("rows", [3, 100, 70_000])
@pytest.mark.parametrize("values", [1, 5, 32, 33, 4000])
def test_distinct_values_are_those_of_a_sort(rows: int, values: int) -> None:
    random = np.random.default_rng(rows + values)
    of = random.integers(0, 1 << 63, values, dtype=np.uint64)
    column = of[random.integers(0, values, rows)]
    column[rows // 2] = np.uint64(1 << 63)  # which a sample of the rows may lack
    found, inverse = distinct(column)
    expected, expected_inverse = np.unique(column, return_inverse=True)
    assert found.tolist() == expected.tolist()
    assert inverse.tolist() == expected_inverse.tolist()


def test_each_machine_has_tids_and_pids_of_its_own_and_shares_the_ids_of_the_session() -> None:
    known = Identities()
    guest = known.of_machine(1)
    first, other = known.thread(7, known.process(7), name="host"), guest.thread(7, guest.process(7))
    assert _utids(known, (7, 5), (9, 5)) == [first, 3]
    assert _utids(guest, (7, 5), (9, 5), (0, 5)) == [other, 4, 0]
    guest.name_unnamed({7: "vm", 9: "new", 100: "none"})
    known.name_unnamed({7: "other"})
    assert [row[-1] for row in known.thread_rows()] == ["swapper", "host", "vm", "", "new"]
    assert [(row[1], row[-1]) for row in guest.process_rows()] == [(0, 0), (7, 0), (7, 1), (9, 0), (9, 1)]
    assert known.process_rows() == guest.process_rows()
