"""Rings to files: while recording, bytes move and nothing else happens."""

import os
from pathlib import Path

from insitu.errors import InsituError
from insitu.kernel.perf_ring import Ring

__all__ = ["RawFiles"]


class RawFiles:
    """One file for each ring, ``cpuN.records`` in ``directory``: the records of that CPU, one after the other."""

    def __init__(self, directory: Path, rings: dict[int, Ring]) -> None:
        self._sinks: list[tuple[Ring, int]] = []
        self.bytes_written = 0
        try:
            for cpu, ring in rings.items():
                path = directory / f"cpu{cpu}.records"
                self._sinks.append((ring, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)))
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        """Write out what the rings hold. Raises InsituError if the file system takes no more.

        The file may then end within a record; readers drop such a tail.
        """
        for ring, fd in self._sinks:
            pieces = ring.slices()
            if pieces:
                self._write(fd, pieces)
                ring.release()

    def _write(self, fd: int, pieces: list[memoryview]) -> None:
        try:
            while pieces:
                written = os.writev(fd, pieces)
                self.bytes_written += written
                while pieces and written >= len(pieces[0]):
                    written -= len(pieces.pop(0))
                if written:
                    pieces[0] = pieces[0][written:]
        except OSError as error:
            raise InsituError(
                f"recording stopped: {error.strerror}", remedy="what was recorded so far is kept"
            ) from error

    def close(self) -> None:
        """Close the files."""
        for _, fd in self._sinks:
            os.close(fd)
        self._sinks.clear()
