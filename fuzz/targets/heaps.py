"""Core files of broken processes: what `insitu leaks CORE` takes."""

from pathlib import Path

from fuzz.registry import Read
from fuzz.targets.isolation import without_files_here
from insitu.inspect.heap.contents import groups
from insitu.inspect.heap.core_file import read_core
from insitu.inspect.heap.holders import dominators, why
from insitu.inspect.heap.leaks import examine
from insitu.inspect.variable_names import VariableNames

__all__ = ["core"]

_MOST_BYTES = 1 << 24


def core(directory: Path) -> Read:
    """A core file: its notes, its segments, and the heap in them, whose every word may be damaged."""
    without_files_here()

    def read(data: bytes) -> None:
        path = directory / "core"
        path.write_bytes(data)
        found = examine(read_core(path, _MOST_BYTES))
        names = VariableNames(0, found.snapshot.areas, live=False)
        groups(found, range(4), names)
        dominators(found)
        for block in range(min(len(found.heap.addresses), 8)):
            why(found, block, names)

    return read
