"""What the scripts of system calls are told in their maps: the target's threads, and the calls that are asked for."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from insitu.record.ptrace_refusal import has_ended
from insitu.syscalls.call_word import ABI_SHIFT, UNKNOWN, abis_of

if TYPE_CHECKING:
    from insitu.kernel.bpf_map import Map
    from insitu.probe.runtime.run import Runtime
    from insitu.record.source import Target

__all__ = ["TargetMaps", "numbers_in"]

_NUMBERS: Final = 1024
"""More than any ABI has calls."""


class TargetMaps:
    """Writes the maps of a loaded script."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._elements: dict[str, dict[bytes, bytes]] = {}

    def put(self, name: str, key: int, value: int) -> None:
        """Set an element; all of them are written by fill()."""
        self._elements.setdefault(name, {})[struct.pack("<Q", key)] = struct.pack("<Q", value)

    def set(self, name: str, value: int) -> None:
        """Set a map without a key."""
        self._map(name).update(bytes(4), struct.pack("<QQ", value, 1))

    def _map(self, name: str) -> Map:
        return self._runtime.loaded.maps[self._runtime.compiled.layout.number(name)]

    def any_alive(self) -> bool:
        """Returns whether a task of the target is alive. The end of one may be missed: it may end while we attach."""
        tids = (int.from_bytes(key, "little") for key, value in self._map("@task").items() if any(value))
        return any(tid and not has_ended(tid) for tid in tids)

    def calls(self, asked: frozenset[tuple[str, int]] | None) -> Iterator[tuple[int, str, int]]:
        """The key, ABI and number of each call that is asked for; all of them for None."""
        for index, abi in enumerate(abis_of(os.uname().machine)):
            for nr in (*range(_NUMBERS), UNKNOWN):
                if abi and (asked is None or (abi, nr) in asked):
                    yield index << ABI_SHIFT | nr, abi, nr

    def fill(self, target: Target, *, held: int, thread: Callable[[int, int], int]) -> None:
        """Let the programs, which are attached, know the target. ``held`` is the word of a command before it begins,
        ``thread`` returns that of a thread (process, thread) that runs already."""
        for name, elements in self._elements.items():
            self._map(name).update_many(elements)
        self.set("@self", os.getpid())
        if target.launched:
            self._begin(target.launched.pid, held)
        for pid in target.pids:
            seen: set[int] = set()
            while new := set(numbers_in(Path(f"/proc/{pid}/task"))) - seen:
                for tid in sorted(new):
                    self._begin(tid, thread(pid, tid))
                seen |= new
        if target.whole_system:
            self.set("@whole", 1)

    def _begin(self, tid: int, word: int) -> None:
        self._map("@task").update(struct.pack("<Q", tid), struct.pack("<Q", word))


def numbers_in(directory: Path) -> list[int]:
    """Returns the numbers that a directory of /proc lists, none once its process has ended."""
    try:
        return [int(each.name) for each in directory.iterdir()]
    except OSError:
        return []
