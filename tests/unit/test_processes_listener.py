"""ProcessListener of processes, as the kernel's records report them, one by one."""

import os
import struct
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.kernel.perf_event import Misc, Record
from insitu.symbols.process_listener import Place, ProcessListener
from insitu.symbols.process_map import Module

_GONE = 2**22 + 1  # no process has this number (include/linux/threads.h: PID_MAX_LIMIT)


class _Ring:
    """A ring whose content is given."""

    def __init__(self, *records: bytes) -> None:
        self._pieces = [memoryview(b"".join(records))]

    def slices(self) -> list[memoryview]:
        return self._pieces

    def release(self) -> None:
        self._pieces = []


def _record(kind: int, time: int, body: bytes, misc: int = 0) -> bytes:
    body += bytes(-len(body) % 8) + struct.pack("<Q", time)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def _mapped(time: int, pid: int, start: int, length: int, path: str, offset: int = 0) -> bytes:
    fields = struct.pack("<IIQQQIIQQII", pid, pid, start, length, offset, 0, 0, 0, 0, 5, 2)
    return _record(Record.MMAP2, time, fields + path.encode() + b"\0")


def _forked(time: int, pid: int, parent: int) -> bytes:
    return _record(Record.FORK, time, struct.pack("<IIIIQ", pid, parent, pid, parent, time))


def _executed(time: int, pid: int) -> bytes:
    return _record(Record.COMM, time, struct.pack("<II", pid, pid) + b"name\0", Misc.COMM_EXEC)


def _after(*rings: _Ring) -> ProcessListener:
    listener = ProcessListener()
    listener._rings = list(rings)  # type: ignore[arg-type]
    return listener


def test_what_a_process_mapped_is_found_after_it_has_ended() -> None:
    listener = _after(_Ring(_mapped(1, _GONE, 0x1000, 0x1000, "/a", 0x3000)))
    assert listener.find(_GONE, 0x1800) == Place(Module("/a", pid=_GONE, code_offset=0x3000), 0x3800)
    assert listener.find(_GONE, 0x2000) is None and listener.find(_GONE + 1, 0x1800) is None


def test_the_latest_epoch_has_all_that_was_reported_whatever_the_clock_says() -> None:
    in_a_year = time.monotonic_ns() + 365 * 86_400 * 10**9
    listener = _after(_Ring(_mapped(1, _GONE, 0x1000, 0x1000, "/a"), _mapped(in_a_year, _GONE, 0x5000, 0x1000, "/b")))
    (epoch,) = listener.latest_epochs(np.array([_GONE], np.int32)).tolist()
    assert [(start, end) for start, end, _, _ in listener.map.mappings(epoch)] == [(0x1000, 0x2000), (0x5000, 0x6000)]


def test_the_latest_mapping_counts_in_the_order_of_time_not_of_rings() -> None:
    later, earlier = _mapped(9, _GONE, 0x1000, 0x1000, "/later"), _mapped(5, _GONE, 0x1000, 0x1000, "/earlier")
    listener = _after(_Ring(later), _Ring(earlier))
    found = listener.find(_GONE, 0x1000)
    assert found is not None and found.module.path == "/later"


def test_a_child_runs_what_its_parent_runs_until_it_executes_something() -> None:
    child = _GONE + 1
    before = [_mapped(1, _GONE, 0x1000, 0x1000, "/shell"), _forked(2, child, _GONE)]
    inherited = _after(_Ring(*before)).find(child, 0x1000)
    assert inherited is not None and inherited.module.path == "/shell"
    executed = [*before, _executed(3, child), _mapped(4, child, 0x1000, 0x800, "/program")]
    listener = _after(_Ring(*executed, _mapped(5, child, 0x8000, 0x1000, "/library")))
    own, parents = listener.find(child, 0x1000), listener.find(_GONE, 0x1000)
    assert own is not None and own.module.path == "/program"
    assert parents is not None and parents.module.path == "/shell"
    assert listener.find(_GONE, 0x8000) is None


def test_stacks_of_before_an_exec_are_found_when_nothing_is_mapped_there_since() -> None:
    records = [_mapped(1, _GONE, 0x1000, 0x1000, "/shell"), _executed(2, _GONE), _mapped(3, _GONE, 0x9000, 8, "/new")]
    found = _after(_Ring(*records)).find(_GONE, 0x1000)
    assert found is not None and found.module.path == "/shell"


def test_an_earlier_process_of_the_same_number_is_forgotten() -> None:
    records = [_mapped(1, _GONE, 0x1000, 0x1000, "/old"), _forked(2, _GONE, 1), _executed(3, _GONE)]
    assert _after(_Ring(*records)).find(_GONE, 0x1000) is None


def test_lost_records_are_counted_and_each_path_is_reported_when_it_appears() -> None:
    told: list[tuple[int, str]] = []
    listener = ProcessListener(lambda pid, module: told.append((pid, module.path)))
    listener._rings = [_Ring(_mapped(1, _GONE, 0, 8, "/a"), _record(Record.LOST, 2, struct.pack("<QQ", 1, 7)))]  # type: ignore[list-item]
    listener.drain()
    assert listener.lost == 7 and told == [(_GONE, "/a")]


def test_a_process_that_runs_is_read_from_proc() -> None:
    listener = ProcessListener()
    assert listener.remember(os.getpid())
    code = next(line for line in open("/proc/self/maps") if " r-xp " in line and "/" in line)  # noqa: SIM115, PTH123
    found = listener.find(os.getpid(), int(code.split("-")[0], 16))
    assert found is not None and found.module.path == code.split(maxsplit=5)[5].rstrip("\n")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    listener = _after(_Ring(_mapped(1, _GONE, 0x1000, 0x1000, "/a"), data))
    listener.drain()
    assert listener.find(_GONE, 0x1000) is not None
