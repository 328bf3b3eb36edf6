"""Functions of JIT compilers, from the perf-PID.map that they write.

Its lines are "START SIZE name", hexadecimal (tools/perf/Documentation/jit-interface.txt of the kernel's sources).
"""

import os
import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.foreign_files import read_foreign
from insitu.kernel import procfs

__all__ = ["JitMap", "python_function", "read_jit_map"]

_MAX_BYTES: Final = 1 << 30
_LINE: Final = re.compile(rb"^(?:0[xX])?([0-9a-fA-F]{1,16}) (?:0[xX])?([0-9a-fA-F]{1,16}) ([^\n]*)", re.MULTILINE)
_PYTHON: Final = re.compile(r"py::(.+):(.*)")

U64 = NDArray[np.uint64]


class JitMap:
    """Functions by address. Where code was moved or replaced, the line written last holds."""

    def __init__(self, text: bytes) -> None:
        """Index the lines of ``text``; malformed lines are skipped."""
        self._text = text
        lines = [(int(m[1], 16), int(m[2], 16), *m.span(3)) for m in _LINE.finditer(text)]
        table = np.array(lines, np.uint64).reshape(-1, 4)
        begin, size = table[:, 0], table[:, 1]
        end = begin + size
        sane = (size > 0) & (end > begin)
        begin, end = begin[sane], end[sane]
        self._name = table[sane, 2:].astype(np.int64)
        # Cut at every begin and end: between two cuts one line, the last of those that cover it, holds.
        cuts = np.sort(np.concatenate([begin, end]))
        self._cuts = cuts[_is_first(cuts)]
        self._line = _last_covering(
            np.searchsorted(self._cuts, begin), np.searchsorted(self._cuts, end), len(self._cuts)
        )

    def __len__(self) -> int:
        return len(self._name)

    def find(self, addresses: U64) -> list[str | None]:
        """The name of the function at each address; None where there is none."""
        cut = np.searchsorted(self._cuts, addresses, side="right") - 1
        line = np.where(cut >= 0, self._line[cut], -1) if len(self._cuts) else np.full(len(addresses), -1)
        names: dict[int, str | None] = {-1: None}
        for i in set(line[line >= 0].tolist()):
            begin, end = self._name[i]
            names[i] = self._text[begin:end].decode(errors="replace")
        return [names[i] for i in line.tolist()]

    def function(self, address: int) -> str | None:
        """The name of the function at one address; None if there is none."""
        return self.find(np.array([address], np.uint64))[0]


def _is_first(ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before. (np.unique would import numpy.ma, which takes 20 ms.)"""
    first = np.ones(len(ascending), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return first


def _last_covering(low: NDArray[np.int64], high: NDArray[np.int64], cuts: int) -> NDArray[np.int64]:
    """For each of ``cuts`` positions the highest i with low[i] <= position < high[i], or -1."""
    owner = np.full(cuts, -1, np.int64)
    if np.all(high - low == 1) and _is_first(np.sort(low)).all():  # nothing overlaps
        owner[low] = np.arange(len(low))
        return owner
    # From the last range to the first, each takes the positions still free; taken ones are skipped.
    free = list(range(cuts + 1))  # free[p]: the first free position from p on
    for i in range(len(low) - 1, -1, -1):
        place, stop = int(low[i]), int(high[i])
        while True:
            while free[place] != place:
                free[place] = free[free[place]]
                place = free[place]
            if place >= stop:
                break
            owner[place] = i
            free[place] = place + 1
    return owner


def read_jit_map(pid: int) -> JitMap | None:
    """The map that process ``pid`` wrote, in its own /tmp or ours; None if there is none that is trusted.

    As in perf, only a file owned by root, by us or by the process's user is trusted.
    """
    inner, uid = _identity(pid)
    owners = {0, os.geteuid(), uid}
    for root, number in ((procfs.root(pid), inner), ("/", pid)):
        try:
            # Anyone may put a link there, by which root would open what the link names.
            text = read_foreign(f"/tmp/perf-{number}.map", _MAX_BYTES, root=root, links=False, owners=owners)
        except OSError:
            continue
        return JitMap(text)
    return None


def _identity(pid: int) -> tuple[int, int]:
    """The process id in its innermost namespace, and the effective user id; (pid, 0) once it is gone."""
    try:
        status = procfs.status(pid)
    except OSError:
        return pid, 0
    return status.inner_pid, status.uid


def python_function(name: str) -> tuple[str, str] | None:
    """Function and file of a name that CPython's perf trampolines write, "py::function:/path.py"; None for others."""
    match = _PYTHON.fullmatch(name)
    return (match[1], match[2]) if match else None
