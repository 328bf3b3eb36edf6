"""Rings to files: bytes are copied, nothing is decoded."""

import os
from pathlib import Path

from insitu.files import new_file
from insitu.kernel.perf_ring import Ring

__all__ = ["RingFiles", "write_all"]


class RingFiles:
    """A file for each ring, ``cpuN.records`` in ``directory``, with the records of that CPU in order."""

    def __init__(self, directory: Path, rings: dict[int, Ring]) -> None:
        self._sinks: list[tuple[Ring, int]] = []
        try:
            for cpu, ring in rings.items():
                path = directory / f"cpu{cpu}.records"
                self._sinks.append((ring, new_file(path)))
        except BaseException:
            self.close()
            raise

    def drain(self) -> int:
        """Write the content of the rings; returns the number of bytes. Raises OSError when the disk is full.

        The file may then end within a record; readers drop such a tail.
        """
        total = 0
        for ring, fd in self._sinks:
            pieces = ring.slices()
            if pieces:
                total += write_all(fd, pieces)
                ring.release()
        return total

    def close(self) -> None:
        """Close the files. Idempotent."""
        for _, fd in self._sinks:
            os.close(fd)
        self._sinks.clear()


def write_all(fd: int, pieces: list[memoryview]) -> int:
    """Write all of ``pieces``, also after short writes; returns the number of bytes. Raises OSError."""
    total = 0
    while pieces:
        written = os.writev(fd, pieces)
        total += written
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if written:
            pieces[0] = pieces[0][written:]
    return total
