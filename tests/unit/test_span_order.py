"""Spans as begins and ends, and in lanes where they nest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.formats.span_order import edges, lanes


def _columns(spans):
    return [np.array(column, np.int64) for column in zip(*spans, strict=True)]


def test_outer_spans_begin_first_and_end_last():
    columns = _columns([(0, 1, 9, 1), (0, 1, 10, 0), (0, 5, 9, 2), (0, 10, 12, 0)])
    found = edges(*columns)
    assert list(zip(found.span.tolist(), found.is_end.tolist(), strict=True)) == [
        (1, False),
        (0, False),
        (2, False),
        (2, True),
        (0, True),
        (1, True),
        (3, False),
        (3, True),
    ]


def test_a_span_without_duration_ends_where_it_begins():
    found = edges(*_columns([(0, 5, 5, 1), (0, 5, 5, 1), (0, 1, 5, 0), (0, 5, 8, 0)]))
    assert found.span.tolist() == [2, 2, 3, 0, 0, 1, 1, 3]


def test_spans_that_cross_are_in_different_lanes():
    assert lanes(*_columns([(0, 0, 10, 0), (0, 5, 15, 0), (0, 12, 20, 0), (1, 5, 15, 0)])).tolist() == [0, 1, 0, 0]


_SPANS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 20)).map(lambda s: (s[0], s[1], s[1] + s[2], 0)),
    min_size=1,
    max_size=30,
)


@given(_SPANS)
def test_within_a_lane_every_end_is_that_of_the_span_begun_last(spans):
    track, *times = _columns(spans)
    lane = lanes(track, *times)
    tracks = track * 100 + lane
    found = edges(tracks, *times)
    for one in np.unique(tracks).tolist():
        stack: list[int] = []
        for span, is_end in zip(found.span.tolist(), found.is_end.tolist(), strict=True):
            if tracks[span] == one and not is_end:
                stack.append(span)
            elif tracks[span] == one:
                assert stack.pop() == span
        assert not stack
