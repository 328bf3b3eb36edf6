"""Records of system calls joined to events: halves belong together, losses are said where they are."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.record.sources.syscalls_join import Joiner
from insitu.record.spool import Spool
from insitu.syscalls.call import Enter, Event, Exit, Exited, LostHere, Signal
from insitu.syscalls.call_word import ATTACHED, FIRST, OPEN, SEQUENCE

_FIELDS = {
    "enter": ("nr", "call", "a0", "a1", "a2", "a3", "a4", "a5"),
    "enter_short": ("call", "a0", "a1", "a2"),
    "enter_memory": ("call", "a0", "a1", "a2", "a3", "a4", "a5", "address", "data"),
    "exit": ("call", "ret"),
    "exit_memory": ("call", "ret", "address", "data"),
    "memory": ("call", "address", "size", "data"),
    "exited": ("call", "status"),
    "forked": ("child_pid", "child_tid"),
    "executed": ("call", "old_tid", "data"),
    "program": ("call", "path"),
    "sent": ("to_tid", "to_pid", "fatal", "number", *(f"field{n}" for n in range(9))),
    "killed": ("call", "ret"),
    "netlink": ("call", "fd", "protocol", "port"),
}
_LABELS = list(_FIELDS)
_LAYOUT = {
    "machine": "x86_64",
    "kinds": {
        str(n): {"label": label, "fields": [{"name": name} for name in _FIELDS[label]]}
        for n, label in enumerate(_LABELS)
    },
}
_CLOSE, _OPENAT = 3, 257


def _record(ts_ns: int, tid: int, label: str, *fields: int, data: bytes | None = None) -> bytes:
    body = struct.pack("<IIQII", _LABELS.index(label), 0, ts_ns, tid, 1)
    body += struct.pack(f"<{len(fields)}Q", *fields)
    if data is not None:
        body += struct.pack("<Q", len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
    return struct.pack("<II", len(body), 0) + body


def _word(sequence: int, nr: int) -> int:
    return sequence << SEQUENCE | OPEN | nr


def _events(*records: bytes, **options: Any) -> list[Event]:
    joiner = Joiner(_LAYOUT, **options)
    joiner.add(b"".join(records))
    return joiner.events


def test_memory_belongs_to_the_half_that_follows_it() -> None:
    word = _word(2, _OPENAT)
    entered, left = _events(
        _record(1, 7, "memory", word, 0x2000, 3, data=b"two"),
        _record(2, 7, "enter_memory", word, 9, 0x1000, 0, 0, 0, 0, 0x1000, data=b"/etc\0"),
        _record(3, 7, "memory", word, 0x3000, 5, data=b"three"),
        _record(4, 7, "exit", word, 2**64 - 2),
    )
    assert isinstance(entered, Enter) and isinstance(left, Exit)
    assert (entered.nr, entered.abi, entered.args[:2], left.ret) == (_OPENAT, "x86_64", (9, 0x1000), -2)
    assert entered.memory.read(0x1000, 99) == b"/etc\0" and entered.memory.read(0x2000, 9) == b"two"
    assert entered.memory.read(0x3000, 9) is None and left.memory.read(0x3000, 9) == b"three"


def test_a_path_that_was_not_in_memory_at_the_entry_is_read_at_the_exit_or_from_outside() -> None:
    word = _word(2, _OPENAT)
    missing = _record(1, 7, "enter_memory", word, 9, 0x1000, 0, 0, 0, 0, 0x1000, data=b"")
    for late, outside in ((b"/late\0", b""), (b"", b"/late\0")):
        records = missing, _record(2, 7, "memory", word, 0x1000, 4096, data=late)
        (entered,) = _events(*records, read=lambda tid, address, size, found=outside: found)
        assert isinstance(entered, Enter) and entered.memory.read(0x1000, 4096) == b"/late\0"


def test_the_exit_of_a_lost_entry_is_not_joined_to_an_earlier_entry_of_the_same_call() -> None:
    entered, lost = _events(
        _record(1, 7, "enter_short", _word(2, _CLOSE), 5, 0, 0),
        # Lost: the exit of the second call, and the entry of the third.
        _record(9, 7, "exit", _word(3, _CLOSE), 0),
    )
    assert isinstance(entered, Enter) and lost == LostHere(9, 2)


def test_execve_returns_under_the_number_of_the_process_with_what_its_entry_could_not_read() -> None:
    word = _word(2, 59)
    array = struct.pack("<3Q", 0x2000, 0x3000, 0)
    found = _events(
        _record(0, 8, "memory", word, 0x2000, 33, data=b""),
        _record(0, 8, "memory", word, 0x3000, 33, data=b"here\0"),
        _record(0, 8, "memory", word, 0x9000, 24, data=array),
        _record(1, 8, "enter_memory", word, 0x1000, 0x9000, 0, 0, 0, 0, 0x1000, data=b""),
        _record(2, 1, "executed", word, 8, data=b"name\0here\0"),
        _record(2, 1, "program", word, data=b"/bin/true"),
        _record(3, 1, "exit", word, 0),
    )
    assert [type(event).__name__ for event in found] == ["Enter", "Executed", "Exit"]
    memory = found[0].memory  # type: ignore[union-attr]
    assert [memory.read(at, 99) for at in (0x1000, 0x2000, 0x3000)] == [b"/bin/true\0", b"name\0", b"here\0"]


def test_the_return_of_a_call_that_ran_while_we_attached_may_be_missed() -> None:
    events = _events(
        _record(1, 7, "enter_short", _word(2, _CLOSE) | ATTACHED, 3, 0, 0),
        _record(2, 7, "enter_short", _word(3, _CLOSE), 4, 0, 0),
    )
    assert [type(event) for event in events] == [Enter, Enter]


_SIGCHLD, _SIGTERM, _WAIT4, _SENDTO = 17, 15, 61, 44
_NOTHING_ELSE = (0,) * 9


def test_a_signal_that_is_ignored_is_shown_when_the_call_of_its_thread_has_returned_or_the_recording_ends() -> None:
    sent = _record(2, 99, "sent", 7, 1, 0, _SIGCHLD, *_NOTHING_ELSE)  # by another thread
    word = _word(2, _WAIT4)
    found = _events(_record(1, 7, "enter_short", word, 0, 0, 0), sent, _record(5, 7, "exit", word, 8), sent)
    assert [(type(event), event.ts_ns, event.tid) for event in found] == [
        (Enter, 1, 7), (Exit, 5, 7), (Signal, 5, 7), (Signal, 2, 7)
    ]  # fmt: skip
    joiner = Joiner(_LAYOUT)
    joiner.add(_record(1, 7, "enter_short", word, 0, 0, 0) + sent)
    joiner.flush(9)
    assert [type(event) for event in joiner.events] == [Enter, Signal] and joiner.events[1].ts_ns == 9


def test_a_call_returns_to_the_thread_that_a_signal_kills_and_to_no_other_one() -> None:
    records = [_record(tid, tid, "enter_short", _word(2, _WAIT4), 0, 0, 0) for tid in (1, 2)]
    records += [_record(3, 99, "sent", 1, 1, 1, _SIGTERM, *_NOTHING_ELSE)]
    records += [_record(3 + tid, tid, "killed", _word(2, _WAIT4), 2**64 - 512) for tid in (1, 2)]
    records += [_record(6, tid, "exited", _word(2, _WAIT4), _SIGTERM) for tid in (2, 1)]
    found = [(type(event), event.tid) for event in _events(*records)]
    assert found == [(Enter, 1), (Enter, 2), (Exit, 1), (Signal, 1), (Exited, 2), (Exited, 1)]


def test_the_end_of_a_first_thread_whose_number_execve_gives_to_another_one_is_none() -> None:
    word = _word(2, 59)
    found = _events(
        _record(1, 8, "enter_short", word, 0, 0, 0),
        _record(2, 1, "exited", FIRST, 0),
        _record(3, 1, "executed", word, 8, data=b""),
        _record(4, 1, "exit", word, 0),
        _record(5, 1, "exited", word, 0),
    )
    assert [type(event).__name__ for event in found] == ["Enter", "Executed", "Exit", "Exited"]


def test_a_call_has_the_netlink_protocol_of_its_own_socket_only() -> None:
    before = _record(1, 7, "netlink", FIRST, 5, 0, 321)
    entered = _record(2, 7, "enter_short", _word(2, _SENDTO), 5, 0, 0)
    other = _record(4, 7, "enter_short", _word(3, _SENDTO), 5, 0, 0)
    first, _, second = _events(before, entered, _record(3, 7, "exit", _word(2, _SENDTO), 0), other)
    assert [getattr(each.memory, "netlink", "") for each in (first, second)] == ["ROUTE", ""]  # type: ignore[union-attr]


def test_records_of_unknown_kinds_are_counted() -> None:
    joiner = Joiner(_LAYOUT)
    joiner.add(_record(1, 7, "exit", 0, 0).replace(struct.pack("<I", _LABELS.index("exit")), b"\xff\0\0\0", 1))
    assert joiner.malformed == 1 and not joiner.events


def _is_exit(record: bytes) -> bool:
    return record[8] == _LABELS.index("exit")


def _is_end(record: bytes) -> bool:
    return record[8] == _LABELS.index("exited")


_CALLS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(_CALLS, st.data())
def test_halves_are_joined_to_their_own_whatever_is_lost(
    calls: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    """Threads of three numbers, which are used again; each call's first argument is what it returns."""
    records: list[tuple[int, bytes]] = []  # thread, record
    sequence = dict.fromkeys((1, 2, 3), FIRST >> SEQUENCE)
    for value, (tid, nr, ends) in enumerate(calls):
        sequence[tid] += 1
        word, ts_ns = _word(sequence[tid], nr), 10 * value
        records.append((tid, _record(ts_ns, tid, "enter_short", word, value, 0, 0)))
        records.append((tid, _record(ts_ns + 1, tid, "exit", word, value)))
        if ends:
            records.append((tid, _record(ts_ns + 2, tid, "exited", word, 0)))
            sequence[tid] = FIRST >> SEQUENCE
    # A thread's end and the beginning of the next one of its number are not both lost.
    kept = [_is_end(record) or data.draw(st.booleans()) for _, record in records]
    found = _events(*(record for keep, (_, record) in zip(kept, records, strict=True) if keep))
    opened: dict[int, Enter] = {}
    for event in found:
        if isinstance(event, Enter):
            opened[event.tid] = event
        elif isinstance(event, Exit):
            assert opened.pop(event.tid).args[0] == event.ret
        elif isinstance(event, Exited):
            opened.pop(event.tid, None)
    lost = sum(event.records for event in found if isinstance(event, LostHere))
    missing = [index for index, keep in enumerate(kept) if not keep]
    assert lost <= len(missing)
    # What is lost in front of another record of its thread is said. The last call of a thread that ends may not have
    # returned: its exit is not missed.
    last = {tid: index for index, (tid, _) in enumerate(records) if kept[index]}
    missed = [
        index
        for index in missing
        if index < last.get(records[index][0], -1)
        and not (_is_exit(records[index][1]) and index + 1 < len(records) and _is_end(records[index + 1][1]))
    ]
    assert (lost > 0) == bool(missed)


@pytest.mark.parametrize("in_memory", [0, 10, 1 << 20])
def test_a_spool_returns_what_was_put_in_in_that_order(in_memory: int) -> None:
    spool, chunks = Spool(in_memory), [bytes([n]) * n for n in range(1, 30)]
    taken = []
    for chunk in chunks:
        spool.append(memoryview(chunk))
        if len(chunk) % 3 == 0:
            taken.append(spool.take())
    while spool:
        taken.append(spool.take())
    assert taken == chunks and spool.take() == b""
    spool.close()
