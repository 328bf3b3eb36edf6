"""Wall time: what each thread of the target did all the time, added up in the kernel (wall_script.py)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from insitu.convert.wall_causes import WAITING
from insitu.convert.wall_maps import SNAPSHOT
from insitu.files import new_file, write_whole
from insitu.kernel import procfs
from insitu.kernel.sleeping import SLEEPING, SleepingThread, packed, sleeping_thread
from insitu.probe.runtime.map_records import map_records
from insitu.record.source import Target
from insitu.record.sources.generated import GeneratedSource
from insitu.record.sources.syscalls_targets import TargetMaps
from insitu.record.sources.wall_python import PythonWaits
from insitu.record.sources.wall_script import FILE, FUTEX, STARTED, wall_text
from insitu.syscalls.decode import call_name
from insitu.syscalls.descriptors import descriptor_arguments

__all__ = ["WallSource"]

_FOREVER: Final = 1 << 60
_COPIES: Final = 16384
_LOOKED_UP_WITHIN_S: Final = 0.1
_UNTOLD_S: Final = 0.25
"""Attaching to some hundred threads takes less."""
_SNAPSHOT_SHARE: Final = 50
"""Of the time, snapshots of the maps take at most one part in so many."""


class _Sleeper(NamedTuple):
    """A sleeping thread, the number of its system call (-1: none), and what the call's first argument is open on."""

    thread: SleepingThread
    switches: int
    nr: int
    path: str


class WallSource(GeneratedSource):
    """The accounting of a target's threads, those of its children included; convert/wall.py has its converter."""

    id = "wall"

    def __init__(self) -> None:
        super().__init__()
        self._target = Target()
        self._directory: Path | None = None
        self._kinds: dict[int, int] = {}
        self._next_s = 0.0
        self._python: PythonWaits | None = None
        self._began_early = ""

    @property
    def notes(self) -> Sequence[str]:
        """Also that more time is accounted than was asked for."""
        return [*super().notes, *filter(None, [self._began_early])]

    @property
    def wait_s(self) -> float:
        """A second, or less where blocked threads of Python are read."""
        return min(1.0, self._python.wait_s if self._python else 1.0)

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target = target
        self.open_script(wall_text(_threads()), target, "cannot account wall time")
        for key, abi, nr in TargetMaps(self.map).calls():
            if call_name(abi, nr).startswith("futex"):
                self._kinds[key] = FUTEX
            elif 0 in descriptor_arguments(abi, nr):
                self._kinds[key] = FILE

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach, then let the programs know the target, and keep where its threads wait now."""
        asleep = self._sleepers({})  # takes long for thousands of threads: not while their time is accounted
        begun_s = time.monotonic()
        super().start(directory, start_ns)
        maps, target = TargetMaps(self.map), self._target
        for key, kind in self._kinds.items():
            maps.put("@kind", key, kind)
        maps.fill(
            target._replace(launched=None, pids=self._pids()),
            held=0,
            thread=lambda pid, tid: _started(),
            may_have_ended=target.whole_system,
        )
        maps.set("@copies", _COPIES)
        maps.set("@until", _FOREVER)
        if target.launched:
            maps.set("@launched", target.launched.pid)
        if directory is not None:
            self._directory = directory
            self._python = PythonWaits(self.map("@task"))
            asleep = self._sleepers(asleep, within_s=_LOOKED_UP_WITHIN_S)
            with os.fdopen(new_file(directory / SLEEPING), "wb") as file:
                file.writelines(packed(each.thread) for each in asleep.values())
            waiting = {tid: [each.nr, each.path, each.thread.state] for tid, each in asleep.items()}
            write_whole(directory / WAITING, json.dumps(waiting).encode())
        took_s = time.monotonic() - begun_s
        if took_s > _UNTOLD_S:
            self._began_early = (
                f"attaching took {took_s:.1f} s, which are accounted besides the time that was asked for"
            )

    def _pids(self) -> tuple[int, ...]:
        if self._target.whole_system:
            return tuple(pid for pid in procfs.pids() if pid != os.getpid())
        return self._target.pids

    def _sleepers(self, before: Mapping[int, _Sleeper], within_s: float = math.inf) -> dict[int, _Sleeper]:
        """The sleeping threads of the target by tid; those that have not run since ``before`` as they were then.
        After ``within_s`` no others are looked up."""
        found: dict[int, _Sleeper] = {}
        end_s = time.monotonic() + within_s
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):  # the process has ended
                for tid in procfs.threads(pid):
                    with contextlib.suppress(OSError):  # the thread has ended
                        each = before.get(tid)
                        if each is None or procfs.switches(tid) != each.switches:
                            each = _sleeper(pid, tid) if time.monotonic() < end_s else None
                        if each:
                            found[tid] = each
        return found

    def drain(self) -> int:
        """Once a second or less often, keep what the maps hold now: all there is if the recorder is killed."""
        written = super().drain()
        if self._python:
            self._python.read()
        now_s = time.monotonic()
        if self._directory is not None and now_s >= self._next_s:
            found = struct.pack("<q", time.clock_gettime_ns(time.CLOCK_MONOTONIC))
            found += map_records(self.runtime.compiled.layout, self.runtime.loaded.maps)
            write_whole(self._directory / SNAPSHOT, found)
            if self._python:
                self._python.write(self._directory)
            took_s = time.monotonic() - now_s
            self._next_s = now_s + max(1.0, _SNAPSHOT_SHARE * took_s)
        return written

    def stop(self, end_ns: int) -> None:
        """End the accounting for all threads at once, then detach and write what the maps hold."""
        TargetMaps(self.map).set("@until", end_ns)
        if self._directory is not None and self._python:
            self._python.write(self._directory)
        super().stop(end_ns)

    def layout(self) -> Any:
        """A script's layout, with a converter of its own."""
        return {**super().layout(), "kind": "wall"}


def _threads() -> int:
    """How many threads the machine has now."""
    return int((procfs.text("/proc/loadavg") or "0/0").partition("/")[2].split()[0])


def _started() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) << 3 | STARTED


def _sleeper(pid: int, tid: int) -> _Sleeper | None:
    switches = procfs.switches(tid)
    if (thread := sleeping_thread(pid, tid)) is None:
        return None
    words = (procfs.text(f"/proc/{tid}/syscall") or "").split()
    nr = int(words[0]) if len(words) > 2 and thread.sp else -1  # kernel threads are in no call
    path = ""
    with contextlib.suppress(OSError, IndexError):
        path = str(Path(f"/proc/{tid}/fd/{int(words[1], 16) & 0xFFFFFFFF}").readlink())
    return _Sleeper(thread, switches, nr, path)
