"""The mappings of a process with the sizes that the kernel adds up for each (/proc/PID/smaps), in arrays.

Source: Documentation/filesystems/proc.rst. Of 100,000 mappings the text has 100 MB: it is read and taken apart in
parts, never as a whole.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.kernel import procfs
from insitu.kernel.procfs import Area

__all__ = ["Mappings", "mappings", "nodes"]

I64 = NDArray[np.int64]

_FIELDS: Final = (
    *("Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Anonymous", "Locked"),
    *("Swap", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb"),
)
# A header is no field: it begins with an address in hexadecimal and has no colon after its first word.
_HEAD: Final = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ .*$", re.MULTILINE)
# Names cannot imitate a field: a newline in one is written as \012.
_VALUES: Final = {name: re.compile(rb"\n" + name.encode() + rb": +(\d+) kB") for name in _FIELDS}
_FLAGS: Final = re.compile(rb"\nVmFlags: ?(.*)")
_LAST: Final = b"\nVmFlags:"
_PART: Final = 1 << 22
_NODE: Final = re.compile(rb" N(\d+)=(\d+)")
_PAGE_SIZE: Final = re.compile(rb" kernelpagesize_kB=(\d+)")


class Mappings(NamedTuple):
    """n mappings in ascending order. ``sizes``: (n,) bytes by the name that smaps has for them."""

    areas: list[Area]
    sizes: dict[str, I64]
    flags: list[bytes]
    """VmFlags: pairs of letters."""

    def has_flag(self, *names: bytes) -> NDArray[np.bool_]:
        """(n,) Which have one of these flags."""
        return np.array([any(name in each.split() for name in names) for each in self.flags], bool)


def mappings(pid: int) -> Mappings:
    """The mappings of a process; none of a kernel thread, and of one that has ended. Raises OSError."""
    areas: list[Area] = []
    flags: list[bytes] = []
    sizes: dict[str, list[I64]] = {name: [] for name in _FIELDS}
    path = f"/proc/{pid}/smaps"
    for text in _parts(path):
        heads = _HEAD.findall(text)
        areas += procfs.areas_of(b"\n".join(heads), path)
        flags += _FLAGS.findall(text)
        for name, pattern in _VALUES.items():
            found = pattern.findall(text)
            if len(found) != len(heads):  # a kernel that does not know the field
                if found:
                    raise OSError(errno.EINVAL, "not in the kernel's format", path)
                found = [b"0"] * len(heads)
            sizes[name].append(np.array(found, dtype="S20").astype(np.int64) << 10)
    if len(flags) != len(areas):
        raise OSError(errno.EINVAL, "not in the kernel's format", path)
    none = np.zeros(0, np.int64)
    return Mappings(areas, {name: np.concatenate(each) if each else none for name, each in sizes.items()}, flags)


def _parts(path: str) -> Iterator[bytes]:
    """The text in parts that end with a mapping; what a process that ends leaves incomplete is left out."""
    rest = b""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while True:
            parts, size = [rest], 0
            while size < _PART and (more := file.read(_PART)):
                parts.append(more)
                size += len(more)
            text = b"".join(parts)
            end = text.find(b"\n", text.rfind(_LAST) + 1) + 1 if _LAST in text else 0
            if end:
                yield text[:end]
            rest = text[end:]
            if not size:
                return


def nodes(pid: int) -> dict[int, dict[int, int]]:
    """By start of a mapping: bytes on each NUMA node (/proc/PID/numa_maps); empty where it may not be read."""
    found: dict[int, dict[int, int]] = {}
    try:
        with open(f"/proc/{pid}/numa_maps", "rb") as file:  # noqa: PTH123
            for line in file:
                if pages := _NODE.findall(line):
                    size = _PAGE_SIZE.search(line)
                    unit = int(size[1]) << 10 if size else 4096
                    found[int(line.split(None, 1)[0], 16)] = {int(node): int(count) * unit for node, count in pages}
    except (OSError, ValueError):
        return {}
    return found
