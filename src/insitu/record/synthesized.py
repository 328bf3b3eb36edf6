"""Records that the kernel does not write: processes and mappings from before the recording, losses at its end.

The kernel reports forks, names and mappings only while events are open, and losses only once the ring has room
again. The records made here have the trailer that ``sample_id_all`` adds to the kernel's.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from insitu.kernel import procfs
from insitu.kernel.perf_event import Misc, Record
from insitu.kernel.perf_records import pack, sample_id

__all__ = ["Synthesized", "lost_in_records"]

_PROT_EXEC: Final = 4
_MAP_PRIVATE: Final = 2
_PIECE_BYTES: Final = 16 << 20


class Synthesized:
    """Makes records with the trailer of events with ``sample_type`` and ``event_id``, stamped ``time_ns``."""

    def __init__(self, sample_type: int, event_id: int, time_ns: int, *, mappings: bool = True) -> None:
        """``mappings``: whether processes have records of their mappings too."""
        self._sample_type = sample_type
        self._event_id = event_id
        self._time_ns = time_ns
        self._mappings = mappings

    def fork(self, pid: int, ppid: int, tid: int, ptid: int) -> bytes:
        """PERF_RECORD_FORK: thread ``tid`` of process ``pid`` exists."""
        trailer = self._trailer(pid, tid)
        return pack(Record.FORK, 0, trailer=trailer, pid=pid, ppid=ppid, tid=tid, ptid=ptid, time=self._time_ns)

    def comm(self, pid: int, tid: int, name: bytes) -> bytes:
        """PERF_RECORD_COMM: the thread's name."""
        return pack(Record.COMM, 0, name, self._trailer(pid, tid), pid=pid, tid=tid)

    def mmap2(self, pid: int, area: procfs.Area) -> bytes:
        """PERF_RECORD_MMAP2: executable memory of the process."""
        return pack(
            Record.MMAP2,
            Misc.USER,
            area.path or b"//anon",
            self._trailer(pid, pid),
            pid=pid,
            tid=pid,
            addr=area.start,
            len=area.end - area.start,
            pgoff=area.offset,
            maj=area.major,
            min=area.minor,
            ino=area.inode,
            prot=_PROT_EXEC,
            flags=_MAP_PRIVATE,
        )

    def lost(self, count: int, cpu: int) -> bytes:
        """PERF_RECORD_LOST: ``count`` records did not fit in the ring of ``cpu``."""
        return pack(Record.LOST, 0, trailer=self._trailer(0, 0, cpu), id=self._event_id, lost=count)

    def of_processes(self, pids: Iterable[int]) -> Iterator[bytes]:
        """All records of running processes. Those that exit meanwhile, or that may not be read, are left out."""
        for pid in pids:
            try:
                yield from self._of_process(pid)
            except OSError:
                continue

    def _of_process(self, pid: int) -> Iterator[bytes]:
        ppid = procfs.status(pid).ppid
        for tid in procfs.threads(pid):
            yield self.fork(pid, ppid if tid == pid else pid, tid, ppid if tid == pid else pid)
            yield self.comm(pid, tid, procfs.comm(tid))
        for area in procfs.areas(pid) if self._mappings else ():
            # [vsyscall] is in the kernel's half, the same in every process.
            if "x" in area.permissions and area.start < 1 << 63:
                yield self.mmap2(pid, area)

    def _trailer(self, pid: int, tid: int, cpu: int = 0) -> bytes:
        return sample_id(self._sample_type, pid=pid, tid=tid, time_ns=self._time_ns, event_id=self._event_id, cpu=cpu)


def lost_in_records(file: Path) -> int:
    """Sum of the losses that a file's complete records report; the file is read a piece at a time."""
    import numpy as np

    from insitu.convert.formats.perf_stream import walk

    total, rest = 0, b""
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            data = rest + piece
            stream = walk(data)
            for at in np.flatnonzero(stream.type == Record.LOST).tolist():
                total += int(stream.words[stream.at[at] + 2])  # struct { header; u64 id; u64 lost; }
            rest = data[len(data) - stream.torn :]
            if len(rest) > 1 << 16:  # no record is longer
                break
    return total
