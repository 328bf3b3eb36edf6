"""Which file lies at an address of a process, at a time: address spaces replayed from mmap, fork and exec events.

A process's mappings change while it is recorded. They are cut into *epochs*: within one epoch of one
process, every address that a sample can hold means one thing, so that equal addresses of one epoch are
symbolized and unwound once. A new epoch begins at exec, and where a mapping replaces a different one.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AddressSpaces", "Mapping", "Module"]


class Module(NamedTuple):
    """A file that is mapped into address spaces: what symbols are looked up in.

    ``path`` is as the mapping process sees it (its mount namespace may differ from ours; `` (deleted)`` kept at
    the end when the kernel said so). ``build_id`` is lower-case hexadecimal, "" if unknown. ``pid`` is a
    process that has or had it mapped, for /proc/PID/root and perf-PID.map; it is 0 for the kernel.
    """

    path: str
    build_id: str = ""
    pid: int = 0
    inode: tuple[int, int, int] = (0, 0, 0)  # major, minor, inode number; zeros if unknown


class Mapping(NamedTuple):
    """A range of addresses of one process: ``[start, end)`` holds ``module`` from file offset ``offset`` on."""

    start: int
    end: int
    offset: int
    module: int  # index into AddressSpaces.modules


@dataclass
class AddressSpaces:
    """All epochs of all processes of a recording.

    ``modules[i]`` are the mapped files; ``epochs[e]`` the mappings of epoch ``e``, sorted by start and disjoint.
    """

    modules: list[Module] = field(default_factory=list)
    epochs: list[tuple[Mapping, ...]] = field(default_factory=list)
    _arrays: dict[int, tuple[NDArray[np.uint64], ...]] = field(default_factory=dict, repr=False)

    def find(self, epoch: int, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Module index (-1 where nothing is mapped) and file offset of each address in one epoch."""
        arrays = self._arrays.get(epoch)
        if arrays is None:
            table = np.array(self.epochs[epoch], dtype=np.uint64).reshape(-1, 4)
            arrays = self._arrays[epoch] = tuple(np.ascontiguousarray(table[:, i]) for i in range(4))
        start, end, offset, module = arrays
        if not len(start):
            return np.full(len(addresses), -1, np.int32), np.zeros(len(addresses), np.uint64)
        row = np.searchsorted(start, addresses, side="right") - 1
        hit = (row >= 0) & (addresses < end[row])
        found = np.where(hit, module[row].astype(np.int32), np.int32(-1))
        return found, np.where(hit, addresses - start[row] + offset[row], addresses)
