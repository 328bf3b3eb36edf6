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

_MAX_BYTES: Final = 1 << 28
_MAX_LINES: Final = 1 << 21
_MAX_NAME_BYTES: Final = 1 << 14
_CHUNK_BYTES: Final = 1 << 22
_DIGITS: Final = np.full(256, 16, np.uint64)
_DIGITS[np.frombuffer(b"0123456789abcdefABCDEF", np.uint8)] = [*range(16), *range(10, 16)]
_PYTHON: Final = re.compile(r"py::(.+):(.*)")

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class JitMap:
    """Functions by address. Where code was moved or replaced, the line written last holds."""

    def __init__(self, text: bytes) -> None:
        """Index the lines of ``text``; malformed lines, and those after the first 2 million, are skipped."""
        self._text = text
        begin, size, self._name = _parsed(text)
        self.is_cut = len(begin) == _MAX_LINES or len(text) == _MAX_BYTES
        """Whether lines were left out because they are too many."""
        # Cut at every begin and end: between two cuts one line, the last of those that cover it, holds.
        edges = np.concatenate([begin, begin + size])
        order = np.argsort(edges)
        is_first = _is_first(edges[order])
        self._cuts = edges[order][is_first]
        cut = np.empty(len(edges), np.int64)
        cut[order] = np.cumsum(is_first) - 1
        self._line = _last_covering(cut[: len(begin)], cut[len(begin) :], len(self._cuts))

    @property
    def size(self) -> int:
        """Bytes of memory, nearly."""
        return len(self._text) + sum(table.nbytes for table in (self._name, self._cuts, self._line))

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

    def are_python(self, addresses: U64) -> NDArray[np.bool_]:
        """Which addresses are in functions that CPython's perf trampolines name, "py::function:file"."""
        return np.array([name is not None and name.startswith("py::") for name in self.find(addresses)], np.bool_)

    def function(self, address: int) -> str | None:
        """The name of the function at one address; None if there is none."""
        return self.find(np.array([address], np.uint64))[0]


def _is_first(ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before. (np.unique would import numpy.ma, which takes 20 ms.)"""
    first = np.ones(len(ascending), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return first


def _last_covering(low: I64, high: I64, cuts: int) -> NDArray[np.int32]:
    """For each of ``cuts`` positions the highest i with low[i] <= position < high[i], or -1."""
    # Each is made of two ranges of 2**level positions; from the top on, each of these of two of half the length.
    level = np.frexp((high - low).astype(np.float64))[1] - 1
    rows = np.arange(len(low), dtype=np.int32)
    owner = np.full(cuts, -1, np.int32)
    for each in range(int(level.max(initial=-1)), -1, -1):
        mine = level == each
        np.maximum.at(owner, low[mine], rows[mine])
        np.maximum.at(owner, high[mine] - (1 << each), rows[mine])
        half = 1 << each >> 1
        if half:
            owner[half:] = np.maximum(owner[half:], owner[:-half])
    return owner


def _parsed(text: bytes) -> tuple[U64, U64, I64]:
    """Begin, size, and first and last offset of the name of each well-formed line that covers anything."""
    parts = [(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros((0, 2), np.int64))]
    at = count = 0
    while at < len(text) and count < _MAX_LINES:
        stop = len(text)
        if stop - at > _CHUNK_BYTES:  # at the end of a line, but for one that is longer than all that are sane
            stop = text.rfind(b"\n", at, at + _CHUNK_BYTES) + 1 or at + _CHUNK_BYTES
        begin, size, name = _parsed_chunk(text[at:stop])
        parts.append((begin, size, name + at))
        at, count = stop, count + len(begin)
    begin, size, name = (np.concatenate(column)[:_MAX_LINES] for column in zip(*parts, strict=True))
    return begin, size, name


def _parsed_chunk(text: bytes) -> tuple[U64, U64, I64]:
    raw = np.frombuffer(text + b"\n" * 2, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))[:-1]
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    long_enough = ends - starts >= len("1 1 ")
    starts, ends = starts[long_enough], ends[long_enough]
    begin, after, is_begin = _number(raw, starts)
    size, after, is_size = _number(raw, after)
    good = is_begin & is_size & (begin + size > begin)
    names = np.stack([after[good], np.minimum(ends[good], after[good] + _MAX_NAME_BYTES)], axis=1)
    return begin[good], size[good], names


def _number(raw: NDArray[np.uint8], at: I64) -> tuple[U64, I64, NDArray[np.bool_]]:
    """The hexadecimal number at each offset, the offset after the space after it, and whether both are there."""
    at = np.minimum(at, len(raw) - 2)
    at = at + 2 * ((raw[at] == ord("0")) & ((raw[at + 1] | 0x20) == ord("x")))
    value, first = np.zeros(len(at), np.uint64), at
    for _ in range(16):
        digit = _DIGITS[raw[at]]
        is_digit = digit < 16
        value = np.where(is_digit, value << np.uint64(4) | digit, value)
        at = at + is_digit
        if not is_digit.any():
            break
    return value, at + 1, (at > first) & (raw[at] == ord(" "))


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
