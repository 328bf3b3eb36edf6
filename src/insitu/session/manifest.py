"""session.json: what was recorded, where, when and how, and the tables. Read and written here only."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, Final, Protocol

from insitu import __version__
from insitu.errors import InsituError, damaged_recording
from insitu.files import write_whole
from insitu.foreign_files import read_foreign

__all__ = ["COMPLETE", "FORMAT", "MANIFEST", "RECORDING", "Host", "Manifest", "is_recording"]

FORMAT: Final = 2
RECORDING: Final = "recording"
COMPLETE: Final = "complete"
MANIFEST: Final = "session.json"
_MOST_BYTES: Final = 16 << 20
_MOST_CPUS: Final = 1 << 16
_BOUNDS: Final = {
    "start_ns": (-(2**62), 2**62),  # a file's clock may begin anywhere, and a clock may be set back
    "end_ns": (-(2**62), 2**62),
    "recorder_pid": (0, 2**31 - 1),
    "cpus": (0, _MOST_CPUS),
    "page_size": (0, 2**31 - 1),
    "pids": (0, 2**31 - 1),
    "exit_status": (-255, 255),
    "frequency_hz": (0, 2**31 - 1),
}
"""Of numbers whose bounds are not 0 and 2^63-1."""


class Host(Protocol):
    """What a session needs to know about the machine it is on; kernel/procfs.py is one."""

    def boot_id(self) -> str:
        """Identifies this boot of this machine; "" if unknown."""

    def start_time(self, pid: int) -> int:
        """Start time of a process in clock ticks since boot. Raises OSError, ValueError or IndexError if unknown."""


@dataclass(frozen=True)
class Manifest:
    """The description of a session. Times are CLOCK_MONOTONIC nanoseconds, but for ``start_realtime_ns``."""

    format: int = FORMAT
    insitu: str = __version__
    state: str = RECORDING
    recorder_pid: int = 0
    recorder_start: int = 0
    """Start time of the recorder's process, in clock ticks since boot: pids are reused."""
    boot_id: str = ""
    host: str = ""
    kernel: str = ""
    machine: str = ""
    cpus: int = 0
    page_size: int = 0
    start_ns: int = 0
    end_ns: int = 0
    start_realtime_ns: int = 0
    command: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    whole_system: bool = False
    command_line: list[str] = field(default_factory=list)
    exit_status: int | None = None
    imported_from: str = ""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """{"id", "kind", "options"} of each source, in order."""
    notes: list[str] = field(default_factory=list)
    """Lines for the user: fallbacks, throttling, incomplete records."""
    lost: int = 0
    default_table: str = ""
    """Tables that views show by default, such as "sample+span"; "": the first table with stacks and rows."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{name: {"version", "rows", "parts"}}, and "sorted_by" where rows are in the order of a column."""

    @classmethod
    def here(cls, host: Host, /, **known: Any) -> Manifest:
        """The manifest of a recording that this process begins now."""
        kernel = os.uname()
        return cls(
            recorder_pid=os.getpid(),
            recorder_start=_process_start(host, os.getpid()) or 0,
            boot_id=host.boot_id(),
            host=kernel.nodename,
            kernel=kernel.release,
            machine=kernel.machine,
            cpus=os.cpu_count() or 0,
            page_size=PAGESIZE,
            start_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            start_realtime_ns=time.time_ns(),
            command_line=list(sys.argv),
        ).changed(**known)

    @classmethod
    def imported(cls, host: Host, path: str) -> Manifest:
        """The manifest of a session made from another tool's file."""
        pid = os.getpid()
        return cls(
            recorder_pid=pid,
            recorder_start=_process_start(host, pid) or 0,
            boot_id=host.boot_id(),
            imported_from=path,
        )

    @classmethod
    def read(cls, session: Path) -> Manifest:
        """The manifest of a session directory.

        Raises InsituError if it is missing, damaged, or of another format.
        """
        try:
            raw = read_foreign(MANIFEST, _MOST_BYTES + 1, root=session, links=False)
            found = json.loads(raw) if len(raw) <= _MOST_BYTES else None
        except (FileNotFoundError, NotADirectoryError):
            raise InsituError(f"{session}: not an insitu session (no {MANIFEST})") from None
        except OSError as error:
            raise InsituError(f"{session / MANIFEST}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise damaged_recording(session / MANIFEST, "it is not JSON, or too large") from None
        return cls.parse(found, str(session))

    @classmethod
    def parse(cls, found: Any, name: str) -> Manifest:
        """A manifest from JSON; missing fields and those of a wrong type take defaults. Raises InsituError."""
        from insitu.session.migrations import migrated

        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise damaged_recording(f"{name}/{MANIFEST}", "no format")
        found = migrated(found, name)
        kept: dict[str, Any] = {}
        for each in fields(cls):
            value = found.get(each.name)
            if not _can_be(each.name, value):
                raise damaged_recording(f"{name}/{MANIFEST}", f"a value of {each.name} that cannot be")
            if _fits(value, str(each.type)):
                kept[each.name] = value
        for entry in kept.get("tables", {}).values():
            counts = [entry.get("rows", 0), entry.get("parts", 0)]
            if not all(_fits(count, "int") and _can_be("rows", count) for count in counts):
                raise damaged_recording(f"{name}/{MANIFEST}", "rows of a table that are no number")
        manifest = cls(**kept)
        if not _can_be("frequency_hz", manifest.frequency_hz):
            raise damaged_recording(f"{name}/{MANIFEST}", "a sampling frequency that cannot be")
        return manifest

    def changed(self, **known: Any) -> Manifest:
        """This manifest with some entries replaced."""
        return replace(self, **known)

    def write(self, session: Path) -> None:
        """Replace the session's manifest. Raises OSError."""
        text = json.dumps(asdict(self), indent=1, default=str) + "\n"
        write_whole(session / MANIFEST, text.encode("utf-8", "surrogateescape"))

    @property
    def duration_ns(self) -> int:
        """Duration of the recording; 0: unknown."""
        return max(self.end_ns - self.start_ns, 0) if self.start_ns and self.end_ns else 0

    @property
    def frequency_hz(self) -> int:
        """The requested sampling frequency; 0: none."""
        for source in self.sources:
            options = source.get("options")
            if isinstance(options, Mapping) and isinstance(options.get("frequency_hz"), int):
                return int(options["frequency_hz"])
        return 0

    def live(self, host: Host) -> bool:
        """Whether it was recorded on this machine since its last boot."""
        return bool(self.boot_id) and self.boot_id == host.boot_id() and not self.imported_from


def _can_be(name: str, value: Any) -> bool:
    """Whether a number, or each of a list of them, is one that this field can have. Other values pass."""
    low, high = _BOUNDS.get(name, (0, 2**63 - 1))
    numbers = value if isinstance(value, list) else [value]
    return all(low <= each <= high for each in numbers if isinstance(each, (int, float)))


def _fits(value: Any, annotation: str) -> bool:
    """Whether a JSON value has a field's type; elements of lists and dictionaries too."""
    match annotation.partition("[")[0]:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "int | None":
            return value is None or (isinstance(value, int) and not isinstance(value, bool))
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "list":
            kind = {"str": str, "int": int}.get(annotation[5:-1], dict)
            return isinstance(value, list) and all(isinstance(each, kind) for each in value)
        case "dict":
            return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())
    return False


def is_recording(manifest: Manifest, host: Host) -> bool:
    """Whether another process still records the session."""
    if manifest.state != RECORDING or manifest.boot_id != host.boot_id() or manifest.recorder_pid == os.getpid():
        return False
    started = _process_start(host, manifest.recorder_pid)
    return started is not None and manifest.recorder_start in (0, started)


def _process_start(host: Host, pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc_pid_stat(5): starttime); None if it does not exist."""
    try:
        return host.start_time(pid)
    except (OSError, ValueError, IndexError):
        return None
