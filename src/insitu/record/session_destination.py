"""A session on disk as what a run writes to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from insitu.files import make_directory, naming, new_file, write_whole
from insitu.kernel import procfs
from insitu.limits import ENGINE_BYTES, refuse_little_memory
from insitu.record.run import Destination, Outcome, Request
from insitu.record.source import Loss, Source
from insitu.session.directory import Renamed, create, put_back, refuse_in_the_way, settle
from insitu.session.manifest import MANIFEST, Manifest

__all__ = ["SessionDestination"]

_RESERVE_BYTES = 16 << 10  # more than what the end adds to it


class SessionDestination(Destination):
    """A new session at ``path``, which is left unconverted; an older one there is kept as PATH.old."""

    def __init__(self, path: Path, default_table: str = "") -> None:
        """``default_table`` is what views show without --table."""
        self._path = path
        self._default_table = default_table
        self._renamed: Renamed = []

    def refuse(self) -> None:
        """Raise InsituError if something that is not a session is in the way, or it could not be converted here."""
        refuse_little_memory(ENGINE_BYTES)
        refuse_in_the_way(self._path, procfs)

    def begin(self, request: Request, sources: Sequence[Source]) -> int:
        """Make the session, without records yet."""
        self._manifest = Manifest.here(
            procfs,
            command=list(request.command),
            pids=list(request.pids),
            whole_system=request.whole_system,
            sources=[{"id": each.id, "kind": each.layout()["kind"], "options": each.options} for each in sources],
            notes=[note for each in sources for note in each.notes],
            default_table=self._default_table,
        )
        self._renamed = create(self._path, self._manifest, procfs)
        try:
            with naming(self._path):
                self._reserve()
        except OSError:
            self.undo()
            raise
        return self._manifest.start_ns

    def directory(self, source: Source) -> Path:
        """raw/SOURCE, with the source's layout."""
        directory = self._raw(source)
        make_directory(directory)
        write_whole(directory / "layout.json", json.dumps(source.layout()).encode())
        return directory

    def attached(self) -> None:
        """Let the recording's time start now: attaching can take seconds, in which only a part is recorded."""
        taken_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - self._manifest.start_ns
        self._manifest = self._manifest.changed(
            start_ns=self._manifest.start_ns + taken_ns,
            start_realtime_ns=self._manifest.start_realtime_ns + taken_ns,
        )

    def undo(self) -> None:
        """Remove the session, and undo the renames."""
        put_back(self._path, self._renamed)

    def settle(self) -> None:
        """Remove what was PATH.old before."""
        settle(self._renamed)

    def losses(self, source: Source, found: Sequence[Loss], end_ns: int) -> None:
        """Write losses to end.json, for the converter."""
        if found:
            entries = [{"what": loss.what, "count": loss.number, "cpu": loss.cpu, "ts_ns": end_ns} for loss in found]
            write_whole(self._raw(source) / "end.json", json.dumps({"losses": entries}).encode())

    def end(self, end_ns: int, outcome: Outcome) -> None:
        """Write the end to the manifest."""
        self._reserved.unlink()
        notes = outcome.notes + ([outcome.failure] if outcome.failure else [])
        status = outcome.exit_status
        self._manifest.changed(end_ns=end_ns, exit_status=status, notes=notes).write(self._path)

    def failed(self, error: OSError) -> str:
        """Returns the reason: what has been recorded is kept."""
        return f"{self._path}: recording stopped: {error.strerror}"

    @property
    def _reserved(self) -> Path:
        return self._path / "raw" / "reserved"

    def _reserve(self) -> None:
        """Take the room that the manifest needs when the records have filled the disk."""
        size = (self._path / MANIFEST).stat().st_size + _RESERVE_BYTES
        with os.fdopen(new_file(self._reserved), "wb") as file:
            file.write(bytes(size))  # a file system without fallocate(2), as 9p shares are, does the same

    def _raw(self, source: Source) -> Path:
        return self._path / "raw" / source.id
