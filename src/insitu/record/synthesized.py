"""Records that the kernel does not write itself: what was there before a recording began, what was lost at its end.

The kernel reports forks, names and mappings only from the moment on that events are open, and losses only when there
is room again. The records made here have the formats of include/uapi/linux/perf_event.h, and the trailer that
``sample_id_all`` gives to the kernel's.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from insitu.kernel import procfs
from insitu.kernel.perf_event import Misc, Record, Sample

__all__ = ["Synthesized", "lost_in_records"]

_HEADER: Final = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_FORK: Final = struct.Struct("=IIIIQ")  # pid, ppid, tid, ptid, time
_COMM: Final = struct.Struct("=II")  # pid, tid, then the name
_MMAP2: Final = struct.Struct("=IIQQQIIQQII")  # pid, tid, addr, len, pgoff, maj, min, ino, generation, prot, flags

_LOST: Final = struct.Struct("=QQ")  # id, lost

_PROT_EXEC: Final = 4
_MAP_PRIVATE: Final = 2
_PIECE_BYTES: Final = 16 << 20


class Synthesized:
    """Makes records with the trailer of events with ``sample_type`` and ``event_id``, stamped ``time_ns``."""

    def __init__(self, sample_type: int, event_id: int, time_ns: int) -> None:
        self._sample_type = Sample(sample_type)
        self._event_id = event_id
        self._time_ns = time_ns

    def fork(self, pid: int, ppid: int, tid: int, ptid: int) -> bytes:
        """PERF_RECORD_FORK: thread ``tid`` of process ``pid`` exists."""
        return self._record(Record.FORK, 0, _FORK.pack(pid, ppid, tid, ptid, self._time_ns), pid, tid)

    def comm(self, pid: int, tid: int, name: bytes) -> bytes:
        """PERF_RECORD_COMM: the thread's name."""
        return self._record(Record.COMM, 0, _COMM.pack(pid, tid) + _padded(name), pid, tid)

    def mmap2(self, pid: int, area: procfs.Area) -> bytes:
        """PERF_RECORD_MMAP2: executable memory of the process."""
        fields = _MMAP2.pack(
            pid,
            pid,
            area.start,
            area.end - area.start,
            area.offset,
            area.major,
            area.minor,
            area.inode,
            0,
            _PROT_EXEC,
            _MAP_PRIVATE,
        )
        return self._record(Record.MMAP2, Misc.USER, fields + _padded(area.path or b"//anon"), pid, pid)

    def lost(self, count: int, cpu: int) -> bytes:
        """PERF_RECORD_LOST: ``count`` records found no room in the ring of ``cpu``."""
        return self._record(Record.LOST, 0, _LOST.pack(self._event_id, count), 0, 0, cpu)

    def of_processes(self, pids: Iterable[int]) -> Iterator[bytes]:
        """All records of running processes. Those that vanish meanwhile, or are not ours to see, are left out."""
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
        for area in procfs.areas(pid):
            # [vsyscall] lies in the kernel's half, the same in every process.
            if "x" in area.permissions and area.start < 1 << 63:
                yield self.mmap2(pid, area)

    def _record(self, kind: Record, misc: int, body: bytes, pid: int, tid: int, cpu: int = 0) -> bytes:
        body += self._trailer(pid, tid, cpu)
        return _HEADER.pack(kind, misc, _HEADER.size + len(body)) + body

    def _trailer(self, pid: int, tid: int, cpu: int) -> bytes:
        """struct sample_id: the fields that sample_type names, in this order."""
        fields = (
            (Sample.TID, struct.pack("=II", pid, tid)),
            (Sample.TIME, struct.pack("=Q", self._time_ns)),
            (Sample.ID, struct.pack("=Q", self._event_id)),
            (Sample.STREAM_ID, struct.pack("=Q", self._event_id)),
            (Sample.CPU, struct.pack("=II", cpu, 0)),
            (Sample.IDENTIFIER, struct.pack("=Q", self._event_id)),
        )
        return b"".join(packed for flag, packed in fields if self._sample_type & flag)


def lost_in_records(file: Path) -> int:
    """The sum of all losses that whole records of a file tell of; read a piece at a time."""
    import numpy as np

    from insitu.convert.formats.perf_records import walk

    total, rest = 0, b""
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            data = rest + piece
            stream = walk(data)
            for at in np.flatnonzero(stream.type == Record.LOST).tolist():
                if stream.size[at] >= _HEADER.size + _LOST.size:
                    total += int(stream.words[stream.at[at] + 2])
            rest = data[len(data) - stream.torn :]
            if len(rest) > 1 << 16:  # no record is longer
                break
    return total


def _padded(name: bytes) -> bytes:
    """The name with its NUL, filled up to whole 64-bit words."""
    # A record's size is 16 bits wide; paths are at most PATH_MAX (4096) long.
    name = name[:4096]
    return name + bytes(8 - len(name) % 8)
