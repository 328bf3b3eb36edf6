"""Pages of a trace buffer that is filled faster than it can be shown: some at once, complete up to a time."""

import itertools
import struct
import sys
from typing import Any, cast

import pytest

from insitu.record.sources import trace_pages
from insitu.record.sources.trace_pages import TracePagesSource

PAGE = 4096


class _Buffers:
    """Of two CPUs: pages that begin at the times given; the first CPU's never end, until it is stopped."""

    def __init__(self) -> None:
        self.next = 0
        self.other = [50]
        self.running = True
        self.after_stop = 100

    def read(self, fd: int, size: int) -> bytes:
        if fd == 1:
            return self._page(self.other.pop()) if self.other else b""
        if not self.running:
            self.after_stop -= 1
        self.next += 10
        return self._page(self.next) if self.after_stop >= 0 else b""

    def _page(self, ts_ns: int) -> bytes:
        return struct.pack("=QQ", ts_ns, PAGE - 16) + bytes(PAGE - 16)


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> _Buffers:
    found = _Buffers()
    monkeypatch.setattr(trace_pages.os, "read", found.read)
    return found


class _Instance:
    cpus = (0, 1)

    def __init__(self, buffers: _Buffers) -> None:
        self.buffers = buffers

    def write(self, path: str, text: str) -> None:
        self.buffers.running = (path, text) != ("tracing_on", "0")

    def counts(self, cpu: int) -> dict[str, int]:
        return {}


def test_no_drain_lasts_as_long_as_its_writer_and_what_is_left_is_not_called_complete(buffers: _Buffers) -> None:
    tracing: Any = type("Tracing", (), {"shares": "nothing"})()
    source = TracePagesSource(tracing, tracefs=cast(Any, object()))
    source._raw = {0: 0, 1: 1}
    source._instance = cast(Any, _Instance(buffers))
    shown: list[tuple[int, list[int]]] = []

    def see(pages: list[tuple[int, bytes]], until_ns: int) -> None:
        shown.append((until_ns, [int.from_bytes(page[:8], sys.byteorder) for _, page in pages]))

    source.see = see
    source.drain()  # and returns at all
    until_ns, times = shown[0]
    assert 50 in times and until_ns == max(times) - 1  # there may be more from the last page's time on
    assert source.wait_s == 0
    buffers.running = True
    source.stop(0)
    assert not buffers.running and buffers.after_stop < 0  # what was there when it stopped has been shown
    assert all(min(now) > until for (until, _), (_, now) in itertools.pairwise(shown) if now)
    assert source.wait_s > 0
