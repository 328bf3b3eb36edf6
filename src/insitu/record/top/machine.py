"""The machine between two moments, from /proc and /sys (Documentation/filesystems/proc.rst, admin-guide/iostats.rst).

What a kernel or container does not show is 0, or absent from a mapping.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from insitu.kernel.pressure import read_stalls
from insitu.record.top.sensors import Sensors
from insitu.record.top.tick import CpuUse, Disks, Machine

__all__ = ["MachineFiles"]

_MOST_BYTES: Final = 4 << 20  # of a file: /proc/stat of 1000 CPUs with all interrupts
_SECTOR: Final = 512  # bytes, whatever the device's own are
_RESOURCES: Final = ("cpu", "memory", "io")
# Disks are made of others (dm, md), or of memory: their requests would be counted twice, or are none.
_NOT_DISKS: Final = ("loop", "ram", "zram", "dm-", "md")


class _Counters(NamedTuple):
    cpus: dict[int, tuple[int, ...]]
    stat: dict[str, int]
    vmstat: dict[str, int]
    stalls_ns: dict[str, int]
    disks: tuple[int, ...]


class MachineFiles:
    """The open files that say how the machine does. Use: read() once a tick; close()."""

    def __init__(self) -> None:
        self._open_files = ExitStack()
        self._fds = {
            name: self._opened(f"/proc/{name}") for name in ("stat", "meminfo", "vmstat", "diskstats", "loadavg")
        }
        self._fds |= {f"pressure/{name}": self._opened(f"/proc/pressure/{name}") for name in _RESOURCES}
        self._disks = _disks()
        self._before = self._counters()
        self._sensors = Sensors(list(self._before.cpus))
        self._open_files.callback(self._sensors.close)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._open_files.close()

    def read(self, dur_s: float) -> Machine:
        """Returns what happened since the last call, which was ``dur_s`` seconds ago, and how things are."""
        before, now = self._before, self._counters()
        self._before = now

        def rate(was: dict[str, int], have: dict[str, int], name: str) -> float:
            return max(0, have.get(name, 0) - was.get(name, 0)) / dur_s

        hottest, temperatures = self._sensors.read()
        memory = {name: size << 10 for name, size in _numbers(self._text("meminfo")).items()}
        load = self._text("loadavg").split()
        return Machine(
            cpus={cpu: _use(before.cpus[cpu], words) for cpu, words in now.cpus.items() if cpu in before.cpus},
            load=float(load[0]) if load else 0.0,
            running=now.stat.get("procs_running", 0),
            blocked=now.stat.get("procs_blocked", 0),
            switches=rate(before.stat, now.stat, "ctxt"),
            forks=rate(before.stat, now.stat, "processes"),
            memory_bytes=memory.get("MemTotal", 0),
            available_bytes=memory.get("MemAvailable", 0),
            cache_bytes=memory.get("Cached", 0) + memory.get("Buffers", 0),
            dirty_bytes=memory.get("Dirty", 0) + memory.get("Writeback", 0),
            swap_used_bytes=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
            faults=rate(before.vmstat, now.vmstat, "pgfault"),
            major_faults=rate(before.vmstat, now.vmstat, "pgmajfault"),
            pressure={
                name: min(1.0, max(0, stalled - before.stalls_ns.get(name, stalled)) / dur_s / 1e9)
                for name, stalled in now.stalls_ns.items()
            },
            disks=_disk_use(before.disks, now.disks, dur_s),
            temperature=hottest,
            temperatures=temperatures,
        )

    def _opened(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        self._open_files.callback(os.close, fd)
        return fd

    def _text(self, name: str) -> str:
        fd = self._fds[name]
        with suppress(OSError):
            return _whole(fd) if fd >= 0 else ""
        return ""

    def _counters(self) -> _Counters:
        stat = self._text("stat")
        stalls = {}
        for name in _RESOURCES:
            if some := read_stalls(self._text(f"pressure/{name}")).get("some"):
                stalls[name] = some.total_ns
        return _Counters(_cpu_words(stat), _numbers(stat), _numbers(self._text("vmstat")), stalls, self._disk_words())

    def _disk_words(self) -> tuple[int, ...]:
        sums = [0] * 8
        for line in self._text("diskstats").split("\n"):
            words = line.split()
            if len(words) >= 11 and words[2] in self._disks:
                # reads, merged, sectors, ms; writes, merged, sectors, ms
                for at in range(8):
                    sums[at] += int(words[3 + at])
        return tuple(sums)


def _whole(fd: int) -> str:
    """A file of /proc, made anew when it is read from its beginning; of some the kernel gives a page at a time."""
    parts: list[bytes] = []
    at = 0
    while at < _MOST_BYTES and (part := os.pread(fd, 1 << 16, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts).decode("ascii", "replace")


def _numbers(text: str) -> dict[str, int]:
    """Lines of a name and a number, as in meminfo and vmstat; others are left out."""
    found = {}
    for line in text.split("\n"):
        words = line.split(None, 2)
        if len(words) >= 2 and words[1].isdecimal():
            found[words[0].rstrip(":")] = int(words[1])
    return found


def _cpu_words(stat: str) -> dict[int, tuple[int, ...]]:
    """Of each CPU: user, nice, system, idle, iowait, irq, softirq, steal, in clock ticks; guest time is in user."""
    found = {}
    for line in stat.split("\n"):
        if not line.startswith("cpu"):
            break
        name, *words = line.split()
        if name != "cpu" and len(words) >= 8:
            found[int(name[3:])] = tuple(map(int, words[:8]))
    return found


def _use(before: tuple[int, ...], now: tuple[int, ...]) -> CpuUse:
    # idle and iowait may go backwards (proc.rst).
    user, nice, system, idle, io_wait, irq, soft, steal = (max(0, b - a) for a, b in zip(before, now, strict=True))
    whole = max(1, user + nice + system + idle + io_wait + irq + soft + steal)
    busy = whole - idle - io_wait if user + nice + system + idle + io_wait + irq + soft + steal else 0
    return CpuUse(busy / whole, (user + nice) / whole, (system + irq + soft) / whole, io_wait / whole, steal / whole)


def _disk_use(before: tuple[int, ...], now: tuple[int, ...], dur_s: float) -> Disks:
    reads, _, read, read_ms, writes, _, written, write_ms = (max(0, b - a) for a, b in zip(before, now, strict=True))
    done = reads + writes
    return Disks(
        reads / dur_s,
        writes / dur_s,
        read * _SECTOR / dur_s,
        written * _SECTOR / dur_s,
        1e6 * (read_ms + write_ms) / done if done else None,
    )


def _disks() -> frozenset[str]:
    """Names of whole disks, without partitions and without devices that are made of others."""
    with suppress(OSError):
        return frozenset(name for name in os.listdir("/sys/block") if not name.startswith(_NOT_DISKS))  # noqa: PTH208
    return frozenset()
