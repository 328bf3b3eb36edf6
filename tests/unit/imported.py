"""Files of other tools read into memory, as tests look at them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from insitu.convert.formats.folded_reader import read_folded
from insitu.convert.formats.registry import ImportOptions, importer_of
from insitu.kernel import procfs
from insitu.session.manifest import Manifest
from insitu.session.memory_stacks import stacks_in_memory
from insitu.session.weighted_stacks import Selection, WeightedStacks
from insitu.session.writer import MemoryTables, SessionWriter
from insitu.symbols.frame import Frame


class Imported:
    """What a reader wrote: the writer, and the columns of ``sample``."""

    def __init__(self, fill: Callable[[SessionWriter], None], name: str = "x") -> None:
        self.tables = MemoryTables()
        self.writer = SessionWriter(self.tables, Manifest.imported(procfs, name))
        fill(self.writer)
        self.writer.finish()

    @property
    def notes(self) -> list[str]:
        return self.writer.manifest.notes

    def column(self, name: str) -> list[Any]:
        return list(self.tables.column("sample", name).tolist())

    def events(self) -> list[str]:
        """Each sample's event."""
        return [self.writer.event_types[at][0] for at in self.column("event_type")]

    def comms(self) -> list[str]:
        """The name that each sample's thread had at its time."""
        found = []
        for utid, ts_ns in zip(self.column("utid"), self.column("ts_ns"), strict=True):
            names = self.writer.processes.label(utid)[2]
            found.append([name for start, name in names if start <= ts_ns or (start, name) == names[0]][-1])
        return found

    def functions(self) -> list[list[str]]:
        """Each sample's stack from its outermost frame on."""
        return [[frame.function for frame in frames] for frames in self.frames()]

    def frames(self) -> list[list[Frame]]:
        """Each sample's frames from the outermost on."""
        tree, found = self.writer.stacks, []
        for node in self.column("stack"):
            chain = []
            while node:
                chain.append(self.writer.frames.frames[tree.frame[node]])
                node = int(tree.parent[node])
            found.append(chain[::-1])
        return found

    def stacks(self, want: Selection | None = None) -> WeightedStacks:
        return stacks_in_memory(self.tables, self.writer, want or Selection())


def imported(path: Path, **options: Any) -> Imported:
    """A file, read by the importer that takes it."""
    return Imported(lambda writer: importer_of(path).read(path, writer, ImportOptions(**options)), path.name)


def folded(data: bytes, name: str = "x", **options: Any) -> Imported:
    """Folded stacks."""
    return Imported(lambda writer: read_folded(data, name, writer, **options), name)
