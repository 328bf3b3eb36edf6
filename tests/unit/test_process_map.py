"""What is mapped where and when, against a list of pages that is written over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.symbols import process_map
from insitu.symbols.process_map import ProcessMap

_PAGES = 24

MAPS = st.lists(
    st.tuples(st.integers(0, _PAGES - 1), st.integers(1, 8), st.integers(0, 3), st.sampled_from("abc")), max_size=30
)
"""First page, pages, page of the file, file."""


def _pages(spaces: ProcessMap, ts_ns: int) -> list[tuple[str, int] | None]:
    """What each page of process 1 holds at a time: file, and offset in pages."""
    (epoch,) = spaces.epochs_at(np.array([1], np.int32), np.array([ts_ns], np.int64)).tolist()
    modules, offsets = spaces.find(epoch, np.arange(_PAGES + 8, dtype=np.uint64))
    return [
        (spaces.modules[module].path, offset) if module >= 0 else None
        for module, offset in zip(modules.tolist(), offsets.tolist(), strict=True)
    ]


@given(MAPS)
def test_every_page_holds_what_was_mapped_there_last_at_every_time_that_it_differed(maps):
    spaces = ProcessMap()
    pages: list[tuple[str, int] | None] = [None] * (_PAGES + 8)
    moments = []
    for ts_ns, (first, count, offset, path) in enumerate(maps, 1):
        spaces.mapped(1, ts_ns, first, count, offset, path)
        for page in range(first, first + count):
            pages[page] = path, offset + page - first
        moments.append((ts_ns, list(pages)))
        for page, held in enumerate(pages):
            found = spaces.latest(1, page)
            assert (held is None and found is None) or (
                found is not None and held == (found[1].path, found[0].offset + page - found[0].start)
            )
    for ts_ns, expected in moments:
        # An epoch holds what comes later in it, too; but never another thing at a page.
        found = _pages(spaces, ts_ns)
        assert all(held is None or held == found[page] for page, held in enumerate(expected))
    open_ends = sorted((each.mapping.start, each.mapping.end) for each in spaces.mapped_for() if not each.end_ns)
    covered = [page for start, end in open_ends for page in range(start, end)]
    assert covered == [page for page, held in enumerate(pages) if held is not None]


def test_a_child_begins_with_what_its_parent_had_whatever_that_maps_later():
    spaces = ProcessMap()
    spaces.mapped(1, 1, 0, 4, 0, "a")
    spaces.mapped(1, 2, 8, 4, 0, "b")
    spaces.forked(2, 1, 3)
    spaces.mapped(1, 4, 1, 2, 9, "c")
    of_child = [each.mapping for each in spaces.mapped_for() if each.process == 1]
    assert sorted((mapping.start, mapping.end) for mapping in of_child) == [(0, 4), (8, 12)]
    assert spaces.latest(2, 1)[1].path == "a" and spaces.latest(1, 1)[1].path == "c"


def test_mappings_that_are_replaced_too_often_are_replaced_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_map, "_MOST_COPIED", 100)
    spaces = ProcessMap()
    for page in range(50):
        spaces.mapped(1, 1, page, 1, 0, "a")
    for ts_ns in range(2, 20):
        spaces.mapped(1, ts_ns, 3, 1, ts_ns, "b")
    assert spaces.crowded and spaces.epoch_count < 6
    assert spaces.latest(1, 3)[0].offset == 19 and spaces.latest(1, 4)[1].path == "a"
