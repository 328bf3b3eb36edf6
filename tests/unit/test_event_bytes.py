"""Events as bytes: what is written is read again, and no bytes are more than an end."""

import io

from hypothesis import given
from hypothesis import strategies as st

from insitu.syscalls import event_bytes
from insitu.syscalls.call import Enter, Executed, Exit, Exited, Forked, LostHere, Pieces, Signal, Stopped

_U64 = st.integers(0, (1 << 64) - 1)
_S64 = st.integers(-(1 << 63), (1 << 63) - 1)
_S32 = st.integers(-(1 << 31), (1 << 31) - 1)
_MEMORY = st.builds(
    Pieces,
    st.lists(st.tuples(_U64, st.binary(max_size=50)), max_size=4),
    st.dictionaries(_S32, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=3),
)
_WHO = (_U64, _S32, _S32)
_EVENTS = st.one_of(
    st.builds(
        Enter,
        *_WHO,
        st.sampled_from(["x86_64", "i386", "x32", "aarch64"]),
        _U64,
        st.tuples(*[_U64] * 6),
        _MEMORY,
        _U64,
        st.booleans(),
        _U64,
    ),
    st.builds(Exit, *_WHO, _S64, _MEMORY, st.booleans(), st.booleans()),
    st.builds(Signal, *_WHO, _S32, _S32, _S32, _S32, st.integers(0, (1 << 32) - 1), _S32, _S64, _S64, _U64, _S64),
    st.builds(Stopped, *_WHO, _S32),
    st.builds(Exited, *_WHO, _S32),
    st.builds(Forked, *_WHO, _S32, _S32),
    st.builds(Executed, *_WHO, _S32, st.binary(max_size=20), st.binary(max_size=50)),
    st.builds(LostHere, _U64, _U64),
)


def plain(event):
    """Comparable: memory as what it holds."""
    fields = list(event)
    return type(event), [
        (tuple(each.pieces), dict(each.descriptors)) if isinstance(each, Pieces) else each for each in fields
    ]


@given(st.lists(_EVENTS, max_size=5))
def test_what_is_written_is_read_again(events):
    data = b"".join(map(event_bytes.encode, events))
    assert [plain(each) for each in event_bytes.read_events(io.BytesIO(data))] == [plain(each) for each in events]


@given(st.lists(_EVENTS, min_size=1, max_size=3), st.data())
def test_a_torn_record_at_the_end_is_one_loss(events, data):
    records = [event_bytes.encode(each) for each in events]
    kept = data.draw(st.integers(1, len(records[-1]) - 1))
    torn = b"".join(records[:-1]) + records[-1][:kept]
    found = list(event_bytes.read_events(io.BytesIO(torn)))
    assert [plain(each) for each in found[:-1]] == [plain(each) for each in events[:-1]]
    assert found[-1] == LostHere(found[-2].ts_ns if len(found) > 1 else 0, 1)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_events_or_a_loss(data):
    for event in event_bytes.read_events(io.BytesIO(data)):
        assert event.ts_ns >= 0


@given(_EVENTS, st.data())
def test_a_changed_byte_is_another_event_or_a_loss(event, data):
    record = bytearray(event_bytes.encode(event))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    assert len(list(event_bytes.read_events(io.BytesIO(record)))) >= 1
