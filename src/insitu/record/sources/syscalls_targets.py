"""Fills the maps of the scripts for system calls: the target's threads, and the calls that are recorded."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from insitu.kernel import procfs
from insitu.kernel.ptrace_refusal import all_ended, has_ended, none_left
from insitu.syscalls.call_word import ABI_SHIFT, UNKNOWN, abis_of, number_of

if TYPE_CHECKING:
    from insitu.kernel.bpf_map import Map
    from insitu.record.source import Target

__all__ = ["TargetMaps"]

_NUMBERS: Final = 1024
"""More than any ABI has calls."""


class TargetMaps:
    """Writes the maps of a loaded script."""

    def __init__(self, named: Callable[[str], Map]) -> None:
        """``named`` returns a map by its name."""
        self._map = named
        self._elements: dict[str, dict[bytes, bytes]] = {}

    def put(self, name: str, key: int, value: int) -> None:
        """Set an element; all of them are written by fill()."""
        self._elements.setdefault(name, {})[struct.pack("<Q", key)] = struct.pack("<Q", value)

    def set(self, name: str, value: int) -> None:
        """Set a map without a key."""
        self._map(name).update(bytes(4), struct.pack("<QQ", value, 1))

    def any_alive(self) -> bool:
        """Returns whether a task of the target is alive. The end of one may be missed: it may end while we attach."""
        tids = (int.from_bytes(key, "little") for key, value in self._map("@task").items() if any(value))
        return any(tid and not has_ended(tid) for tid in tids)

    def calls(self) -> Iterator[tuple[int, str, int]]:
        """The key, ABI and number of each call."""
        for index, abi in enumerate(abis_of(os.uname().machine)):
            if abi:
                for nr in (*range(_NUMBERS), UNKNOWN):
                    yield index << ABI_SHIFT | nr, abi, number_of(abi, nr)

    def fill(
        self, target: Target, *, held: int, thread: Callable[[int, int], int], may_have_ended: bool = False
    ) -> None:
        """Let the programs, which are attached, know the target. ``held`` is the word of a command before it begins,
        ``thread`` returns that of a thread (process, thread) that runs already.

        Raises InsituError if all processes have ended, unless they may.
        """
        for name, elements in self._elements.items():
            self._map(name).update_many(elements)
        self.set("@self", os.getpid())
        if target.launched:
            self._begin(target.launched.pid, held)
        for pid in target.pids:
            seen: set[int] = set()
            with contextlib.suppress(ProcessLookupError):
                while new := set(procfs.threads(pid)) - seen:
                    for tid in sorted(new):
                        self._begin(tid, thread(pid, tid))
                    seen |= new
        if target.pids and not may_have_ended and none_left(target.pids):
            raise all_ended(target.pids)
        if target.whole_system:
            self.set("@whole", 1)

    def _begin(self, tid: int, word: int) -> None:
        task = self._map("@task")
        task.update(struct.pack("<Q", tid), struct.pack("<Q", word).ljust(task.value_size, b"\0"))
