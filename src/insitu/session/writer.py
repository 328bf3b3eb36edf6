"""SessionWriter: appends batches of rows to the tables of a session, for converters and importers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.files import make_directory
from insitu.session import core_tables
from insitu.session.batches import Batch, batch_rows, joined, typed, whole
from insitu.session.directory import drop_raw
from insitu.session.identities import Identities
from insitu.session.interning import FrameTable, StackTree
from insitu.session.manifest import COMPLETE, Manifest
from insitu.session.parquet import write_part
from insitu.session.schema import Table
from insitu.symbols.frame import Frame

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import TracebackType

    from insitu.session.engine import duckdb

__all__ = ["DiskTables", "MemoryTables", "SessionWriter", "TableStore"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_PART_ROWS: Final = 1 << 22
_LARGE_ROWS: Final = 1 << 18  # of a part that is worth a thread
_MOST_LOST: Final = 1 << 53  # a sum of some hundred still fits
_PENDING_BYTES: Final = 48 << 20  # bytes pending in all tables together


class TableStore(Protocol):
    """Where batches go: parquet files, or memory."""

    def write(self, table: Table, batches: Sequence[Batch], rows: int) -> None:
        """Keep one part of a table: of so many rows in batches that have all columns."""


class DiskTables:
    """Parts as parquet files under PATH/tables. A large part is written while the next rows are made."""

    def __init__(self, path: Path, *, lasting: bool = True) -> None:
        """Not ``lasting``: for a session that is read once, quicker and larger."""
        self.path = path
        self._lasting = lasting
        self.parts: dict[str, int] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def write(self, table: Table, batches: Sequence[Batch], rows: int) -> None:
        """Write one part: PATH/tables/TABLE/N.parquet. Raises OSError when the disk is full, or was before."""
        self.wait()
        part = self.parts.get(table.name, 0)
        directory = self.path / "tables" / table.name
        if not directory.is_dir():
            make_directory(directory)
        self.parts[table.name] = part + 1
        target = directory / f"{part}.parquet"
        if rows < _LARGE_ROWS:
            self._write(target, table, batches)
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)
        self._writing = self._pool.submit(self._write, target, table, batches)

    def _write(self, target: Path, table: Table, batches: Sequence[Batch]) -> None:
        write_part(lambda: self._connection, target, table, batches, lasting=self._lasting)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Made where one is needed: it takes 20 ms, and temporary sessions seldom need it."""
        from insitu.session.engine import duckdb

        connection = duckdb.connect()
        connection.execute("set threads = 1")  # a recorder's target has the other CPUs
        return connection

    def wait(self) -> None:
        """Wait until all parts are written. Raises OSError when the disk is full."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """End what is still being written, and close the connection."""
        if self._pool is not None:
            self._pool.shutdown()
        if "_connection" in self.__dict__:
            self._connection.close()


class MemoryTables:
    """Parts kept in memory, for files that are viewed without making a session."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self._parts: dict[str, list[Mapping[str, Any]]] = {}

    def write(self, table: Table, batches: Sequence[Batch], rows: int) -> None:
        """Keep one part."""
        self.tables[table.name] = table
        self._parts.setdefault(table.name, []).append(whole(table, batches))

    def column(self, table: str, name: str) -> Any:
        """A whole column: an array, or a list of texts."""
        parts = self._parts[table]
        if len(parts) > 1:
            merged = {each: joined([part[each] for part in parts]) for each in parts[0]}
            parts = self._parts[table] = [merged]
        return parts[0][name]


@dataclass
class _Pending:
    table: Table
    batches: list[Batch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    total: int = 0
    sorted_by: str = ""
    last: int = -(2**63)


class SessionWriter:
    """Appends batches to tables, keeps stacks, frames, threads and processes, and completes the session.

    Columns that a batch lacks take their defaults. Memory is bounded: parts are written when enough has gathered.
    Use as a context manager: an exception leaves the session incomplete, with its raw records.
    """

    def __init__(self, store: TableStore, manifest: Manifest, path: Path | None = None) -> None:
        self.manifest = manifest
        self.frames = FrameTable()
        self.stacks = StackTree()
        self._store = store
        self._path = path
        self._pending: dict[str, _Pending] = {}
        self._bytes = 0
        self._losses: list[tuple[int, str, int, int]] = []
        self._event_types: list[tuple[str, str, int, str]] = []
        self.notes: list[str] = list(manifest.notes)
        self.processes = Identities()
        """Of the machine that is being written."""
        self._machines: list[tuple[str, str, int, int, str]] = []
        self._spans = 0

    @classmethod
    def on_disk(cls, path: Path, *, lasting: bool = True) -> SessionWriter:
        """A writer into the session directory at ``path``, which exists; not ``lasting``: of a temporary session."""
        return cls(DiskTables(path, lasting=lasting), Manifest.read(path), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._store, DiskTables):
            self._store.close()

    def append(self, table: Table, batch: Batch) -> None:
        """Add rows to a table: ``batch`` holds columns of equal length. Raises OSError when the disk is full."""
        rows = batch_rows(batch)
        pending = self._pending.get(table.name)
        if pending is None:
            self._refuse_twin(table.name)
            pending = self._pending[table.name] = _Pending(table)
            ordered = table.of_type("timestamp")
            pending.sorted_by = ordered.name if ordered is not None and ordered.name == "ts_ns" else ""
        if not rows:
            return
        columns = {column.name: typed(batch, column, rows) for column in table.columns}
        if pending.sorted_by:
            _follow_order(pending, columns[pending.sorted_by])
        size = sum(_bytes(values) for values in columns.values())
        pending.batches.append(columns)
        pending.rows += rows
        pending.bytes += size
        pending.total += rows
        self._bytes += size
        if pending.rows >= _PART_ROWS:
            self._flush(pending)
        elif self._bytes > _PENDING_BYTES:
            self._flush(max(self._pending.values(), key=lambda each: each.bytes))

    def append_rows(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """As append(), with rows in the order of the table's columns."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.columns)
        names = [column.name for column in table.columns]
        self.append(table, dict(zip(names, columns, strict=True)))

    def _refuse_twin(self, name: str) -> None:
        """SQL and some file systems do not tell names apart that differ only in case. Raises InsituError."""
        twin = next((each for each in self._pending if each.casefold() == name.casefold()), None)
        if twin is not None:
            raise InsituError(f"tables {twin} and {name} differ only in case", remedy="rename one of them")

    def _flush(self, pending: _Pending) -> None:
        if not pending.batches and pending.total:
            return
        self._store.write(pending.table, pending.batches, pending.rows)
        self._bytes -= pending.bytes
        pending.batches, pending.rows, pending.bytes = [], 0, 0

    def begin_machine(self, name: str, *, kernel: str, first_cpu: int, cpus: int, events: str) -> None:
        """What is added from here on is of another machine than the manifest's: its pids and tids are its own.

        The rows have numbers of CPUs that no other machine has, from ``first_cpu`` on. ``events`` is what the names
        of its tables of events begin with, after "event.".
        """
        self._machines.append((name, kernel, first_cpu, cpus, events))
        self.processes = self.processes.of_machine(len(self._machines))

    def intern_stack(self, frames: Sequence[Frame]) -> int:
        """The id of one stack, its frames innermost first."""
        return self.stacks.one(self.frames.number(frames))

    def span_ids(self, count: int) -> I64:
        """The ids of ``count`` new rows of ``span``, to which every source of a session adds."""
        first = self._spans
        self._spans += count
        return np.arange(first, self._spans)

    def event_type(self, name: str, unit: str, *, period: int = 0, source: str = "") -> int:
        """The id of an event type; ``unit`` is what ``sample.weight`` counts."""
        entry = (name, unit, period, source)
        if entry not in self._event_types:
            self._event_types.append(entry)
        return self._event_types.index(entry)

    @property
    def event_types(self) -> list[tuple[str, str, int, str]]:
        """(name, unit, period, source) of each event type, by id."""
        return self._event_types

    def rows(self, table: Table) -> int:
        """How many rows a table has by now."""
        pending = self._pending.get(table.name)
        return pending.total if pending else 0

    def losses_by_source(self) -> dict[str, int]:
        """Lost records by source, in the order of their first loss."""
        sums: dict[str, int] = {}
        for _, source, _, count in sorted(self._losses, key=lambda loss: loss[0]):
            sums[source] = sums.get(source, 0) + count
        return sums

    def lost(self, source: str, count: int, *, cpu: int = -1, ts_ns: int = 0) -> None:
        """Record that ``source`` lost ``count`` records."""
        if count > 0:
            self._losses.append((ts_ns, source, cpu, min(count, _MOST_LOST)))

    def finish(self, **manifest: Any) -> Manifest:
        """Write pending rows and the shared tables, and mark the session complete. Raises OSError.

        ``manifest`` are entries of the manifest that are known only now. The raw records, if any, are dropped last.
        """
        if not isinstance(self._store, MemoryTables):  # whose readers take the shared tables from this writer
            self._write_shared()
        for pending in self._pending.values():
            self._flush(pending)
        if isinstance(self._store, DiskTables):
            self._store.wait()
        tables = {name: self._entry(pending) for name, pending in sorted(self._pending.items())}
        self.manifest = self.manifest.changed(
            state=COMPLETE,
            tables=tables,
            notes=list(dict.fromkeys(self.notes)),
            lost=sum(count for *_, count in self._losses),
            **manifest,
        )
        if self._path is not None:
            self.manifest.write(self._path)
            drop_raw(self._path)
        return self.manifest

    def _entry(self, pending: _Pending) -> dict[str, Any]:
        entry: dict[str, Any] = {"version": pending.table.version, "rows": pending.total}
        if isinstance(self._store, DiskTables):
            entry["parts"] = self._store.parts[pending.table.name]
        if pending.sorted_by:
            entry["sorted_by"] = pending.sorted_by
        return entry

    def _write_shared(self) -> None:
        frames = self.frames.frames
        by_field = list(zip(*frames, strict=True)) if frames else [()] * len(Frame._fields)
        columns = dict(zip(Frame._fields, by_field, strict=True))
        self.append(core_tables.FRAME, {"id": np.arange(len(frames), dtype=np.int32), **columns})
        tree = self.stacks
        stack = {"id": np.arange(len(tree), dtype=np.int32), "parent": tree.parent}
        self.append(core_tables.STACK, {**stack, "frame": tree.frame, "depth": tree.depth})
        self.append_rows(core_tables.EVENT_TYPE, [(at, *entry) for at, entry in enumerate(self._event_types)])
        self.append_rows(core_tables.LOST, self._losses)
        if self._machines:
            own = (self.manifest.host, self.manifest.kernel, 0, self._machines[0][2], "")
            self.append_rows(
                core_tables.MACHINE, [(at, *machine) for at, machine in enumerate((own, *self._machines))]
            )
        self.append_rows(core_tables.PROCESS, self.processes.process_rows())
        self.append_rows(core_tables.THREAD, self.processes.thread_rows())
        self.append_rows(core_tables.THREAD_NAME, self.processes.name_rows())


def _follow_order(pending: _Pending, ts_ns: Any) -> None:
    """Track whether the rows so far are in time order."""
    if int(ts_ns[0]) < pending.last or (len(ts_ns) > 1 and bool((ts_ns[1:] < ts_ns[:-1]).any())):
        pending.sorted_by = ""
    else:
        pending.last = int(ts_ns[-1])


def _bytes(values: Any) -> int:
    return int(values.nbytes) if hasattr(values, "nbytes") else 64 * len(values)
