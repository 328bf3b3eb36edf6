"""The maps of record/sources/wall_script.py as they were at the end of a recording, or at the last snapshot."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.sources import RawSource, raw_bytes
from insitu.probe.layout import PER_CPU
from insitu.probe.runtime.capture import MAPS
from insitu.probe.runtime.record_walk import record_offsets

__all__ = ["PLACE", "SAMPLE", "SNAPSHOT", "TASK", "U64", "Maps"]

U64 = NDArray[np.uint64]

SNAPSHOT: Final = "snapshot.maps"
"""What the maps held at a time (its first 8 bytes), should the recorder be killed."""
TASK: Final = (
    *("word", "place"),
    *("woken", "woken_times", "woken_ns"),
    *("wait", "wait_by", "wait_times", "wait_ns"),
    *("ran", "executed", "what", "object", "holder", "ip", "sp", "kind", "wait_place"),
    *("cut", "cut_times", "cut_ns", "cut_ip", "cut_sp", "cut_place"),
    *("waker_ip", "waker_sp", "waker_place"),
)
"""What the script keeps of a thread, each a u64: its state and since when, and where it went off the CPU; keys of
``@wall`` with what was not added there yet, of time off the CPU from its wakeup on, of waits that were ended, and of
time off the CPU from its preemption on; its time on a CPU; the scheduler's
own count of that when it last left one; and its last interruptible wait, preemption and wakeup of
another, by which the next is known to be the same. In the order of use: an element has several cache lines."""
# The words of other keys and values; a stack is two, its id and its process.
PLACE: Final = ("what", "object", "holder", "kernel", "kernel_pid", "user", "user_pid", "sp")
SAMPLE: Final = ("tid", "usermode", "kernel", "kernel_pid", "user", "user_pid", "sp")

Columns = Mapping[str, U64]


class Maps:
    """The maps of the script at the end, or at the last snapshot."""

    def __init__(self, source: RawSource) -> None:
        directory, self.end_ns = source.directory, source.manifest.end_ns
        data = b""
        if (directory / MAPS).exists() and self.end_ns:
            data = bytes(raw_bytes(directory / MAPS)[:])
        elif (directory / SNAPSHOT).exists():
            found = bytes(raw_bytes(directory / SNAPSHOT)[:])
            (self.end_ns,) = struct.unpack_from("<q", found)
            data = found[8:]
        words = np.frombuffer(data[: len(data) & ~7], np.uint64)
        at = record_offsets(data)[0] >> 3
        number = words[at + 1].astype(np.int64) & 0xFFFFFFFF
        self._keys: dict[str, U64] = {}
        self._values: dict[str, U64] = {}
        for each, content in source.layout["maps"].items():
            key, value = (-(-int(content[name]) // 8) for name in ("key_size", "value_size"))
            if content["type"] in PER_CPU:
                value *= int(source.layout["cpus"])
            whole = words[at[number == int(each), None] + 2 + np.arange(key + value)]
            self._keys[content["name"]], self._values[content["name"]] = whole[:, :key], whole[:, key:]

    def keys(self, name: str, words: Sequence[str]) -> Columns:
        """The words of a map's keys as columns."""
        return {word: self._keys[name][:, at] for at, word in enumerate(words)}

    def values(self, name: str, words: int) -> U64:
        """(n, words) values; the sums over CPUs, where each has its own."""
        values = self._values[name]
        found: U64 = values.reshape(len(values), values.shape[1] // words, words).sum(axis=1)
        return found

    def words(self, name: str) -> dict[int, int]:
        """A map of one word by one word."""
        return dict(zip(self._keys[name][:, 0].tolist(), self._values[name][:, 0].tolist(), strict=True))
