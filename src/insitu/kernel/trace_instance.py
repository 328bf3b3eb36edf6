"""Tracing into a buffer of our own: a tracefs instance, which nobody else's tracing sees and which ends with us."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from typing import Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.tracefs import Tracefs

__all__ = ["TraceInstance", "owner_is_dead", "owner_name", "remove_dead"]

_OWNER: Final = re.compile(r"insitu[-_](\d+)[-_](\d+)[-_](\d+)(?:[-_]\w*)?")
_TOP: Final = "top"  # the last part of the name of an instance that only marks that its owner uses the top level
_CPU: Final = re.compile(r"cpu(\d+)")
_BUSY_TRIES: Final = 50


class TraceInstance:
    """A tracefs instance, named after its owner (``owner_name``); or the top level of tracefs.

    Everything that is ``set`` is put back by ``close``, the latest first. The top level is for what only works there
    (function_graph before Linux 6.12 or so): it is refused while somebody else traces there.
    """

    _made = 0

    def __init__(self, tracefs: Tracefs, name: str, lock: int = -1) -> None:
        """``name`` is a directory in instances/; with ``lock``, which it closes, a mark of the top level."""
        self._tracefs = tracefs
        self._name = name
        self._lock = lock
        self._prefix = "" if lock >= 0 else f"instances/{name}/"
        self._restore: list[tuple[str, str]] = []
        self._open = True
        found = [_CPU.fullmatch(each) for each in tracefs.names(f"{self._prefix}per_cpu")]
        self.cpus: tuple[int, ...] = tuple(sorted(int(match[1]) for match in found if match))

    @classmethod
    def create(cls, tracefs: Tracefs, *, top: bool = False, buffer_kb: int = 0) -> TraceInstance:
        """A stopped instance with CLOCK_MONOTONIC's times; ``buffer_kb`` is for each CPU (0: the kernel's choice).

        What dead owners left is removed first. Raises InsituError where the kernel refuses it, or if the top level is
        in use.
        """
        remove_dead(tracefs)
        cls._made += 1
        name = f"{owner_name()}-{_TOP if top else cls._made}"
        lock = _locked_top(tracefs) if top else -1
        try:
            tracefs.make_directory(f"instances/{name}")
            instance = cls(tracefs, name, lock)
        except OSError as error:
            if lock >= 0:
                os.close(lock)
            raise InsituError(
                f"cannot make an instance of the tracing file system: {os.strerror(error.errno or 0)}",
                remedy="needs root" if error.errno in (errno.EPERM, errno.EACCES) else "",
            ) from None
        try:
            instance.set("tracing_on", "0")
            instance.set("trace_clock", "mono", restore=_selected(instance.read("trace_clock")))
            if buffer_kb:
                instance.set("buffer_size_kb", str(buffer_kb), restore=instance.read("buffer_size_kb").split()[0])
        except OSError as error:
            instance.close()
            raise InsituError(f"cannot set up tracing: {os.strerror(error.errno or 0)}") from None
        return instance

    @property
    def is_top(self) -> bool:
        """Whether it is the top level of tracefs, which all of the machine shares."""
        return self._lock >= 0

    def read(self, path: str) -> str:
        """A file's text, relative to the instance. :raises OSError:"""
        return self._tracefs.read(self._prefix + path)

    def write(self, path: str, text: str) -> None:
        """Write as ``echo text > path`` does. :raises OSError:"""
        self._tracefs.write(self._prefix + path, text)

    def append(self, path: str, text: str) -> None:
        """Write as ``echo text >> path`` does. :raises OSError:"""
        self._tracefs.append(self._prefix + path, text)

    def set(self, path: str, text: str, restore: str | None = None) -> None:
        """Write; ``close`` writes back ``restore``, by default what was there. :raises OSError:"""
        before = self.read(path).strip() if restore is None else restore
        self.write(path, text)
        self._restore.append((path, before))

    def add(self, path: str, text: str) -> None:
        """Append to a list such as an event's triggers; ``close`` empties it. :raises OSError:"""
        self.append(path, text)
        self._restore.append((path, ""))

    def open(self, path: str, flags: int) -> int:
        """A descriptor of a file. :raises OSError:"""
        return self._tracefs.open_file(self._prefix + path, flags)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._tracefs.exists(self._prefix + path)

    def counts(self, cpu: int) -> dict[str, int]:
        """The counts of per_cpu/cpuN/stats: "entries", "overrun" (overwritten), "dropped events", "bytes" ..."""
        found = {}
        for line in self.read(f"per_cpu/cpu{cpu}/stats").splitlines():
            name, _, value = line.partition(":")
            if value.strip().isdecimal():
                found[name.strip()] = int(value)
        return found

    def close(self) -> None:
        """Stop, put back what was set, and remove the instance. Idempotent."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):
            self.write("tracing_on", "0")
        for path, text in reversed(self._restore):
            with contextlib.suppress(OSError):
                self.write(path, text)
        if self.is_top:
            with contextlib.suppress(OSError):
                self.write("trace", "")  # what it has recorded
        _removed(self._tracefs, self._name)
        if self.is_top:
            os.close(self._lock)


def owner_name(separator: str = "-") -> str:
    """The first part of the names of all that this process makes in tracefs: pid, start time, PID namespace.

    Names of events take "_" as ``separator``.
    """
    pid = os.getpid()
    return separator.join(("insitu", str(pid), str(procfs.start_time(pid)), str(_pid_namespace())))


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a start without pathlib


def owner_is_dead(name: str) -> bool:
    """Whether a name starts with an ``owner_name`` of this PID namespace, and that owner has ended."""
    match = _OWNER.fullmatch(name)
    if not match or int(match[3]) != _pid_namespace():
        return False
    try:
        return procfs.start_time(int(match[1])) != int(match[2])
    except OSError:
        return True


def remove_dead(tracefs: Tracefs) -> list[str]:
    """Remove what owners that have been killed left: instances, what they had set at the top level, dynamic events.

    Returns what was removed. Without permission: nothing.
    """
    removed = []
    for name in _names(tracefs, "instances"):
        if owner_is_dead(name):
            if name.endswith(f"-{_TOP}") and _is_left_as_we_set_it(tracefs):
                _reset_top(tracefs)
            if _removed(tracefs, name):
                removed.append(f"instance {name}")
    for event in _dynamic_events(tracefs):
        path = re.split(r"\s", event.partition(":")[2], maxsplit=1)[0]  # after a synthetic event's there is a tab
        group, _, name = path.partition("/")
        if owner_is_dead(group) or owner_is_dead(name):
            with contextlib.suppress(OSError):
                tracefs.append("dynamic_events", f"-:{path}")
                removed.append(f"event {path}")
    return removed


def _names(tracefs: Tracefs, path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return tracefs.names(path)
    return []


def _dynamic_events(tracefs: Tracefs) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from tracefs.read("dynamic_events").splitlines()


def _removed(tracefs: Tracefs, name: str) -> bool:
    """Remove an instance: first what would keep it busy. A reader's last descriptor may be closed a moment later."""
    prefix = f"instances/{name}"
    for path, text in (("tracing_on", "0"), ("current_tracer", "nop"), ("events/enable", "0")):
        with contextlib.suppress(OSError):
            tracefs.write(f"{prefix}/{path}", text)
    for attempt in range(_BUSY_TRIES):
        try:
            tracefs.remove_directory(prefix)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EBUSY or attempt + 1 == _BUSY_TRIES:
                return False
            if not attempt:
                _clear_triggers(tracefs, prefix)
            import time

            time.sleep(0.02)
        else:
            return True
    return False


def _clear_triggers(tracefs: Tracefs, prefix: str) -> None:
    """Remove all triggers of an instance: hist triggers with variables keep it busy, those that use them first."""
    found: list[tuple[bool, str]] = []
    for category in _names(tracefs, f"{prefix}/events"):
        for name in _names(tracefs, f"{prefix}/events/{category}"):
            path = f"{prefix}/events/{category}/{name}/trigger"
            with contextlib.suppress(OSError):
                if not (text := tracefs.read(path)).startswith("#"):
                    found.append(("$" in text, path))
    for _, path in sorted(found, reverse=True):
        with contextlib.suppress(OSError):
            tracefs.write(path, "")


def _events_at_top(tracefs: Tracefs) -> list[str]:
    """The events that are on at the top level, but for the one that the kernel switches on for BPF programs."""
    return [each for each in tracefs.read("set_event").split() if each != "bpf_trace:bpf_trace_printk"]


def _recorded_at_top(tracefs: Tracefs) -> bool:
    """Whether the top level's buffer holds events."""
    for cpu in _names(tracefs, "per_cpu"):
        with contextlib.suppress(OSError):
            if re.search(r"^entries: [1-9]", tracefs.read(f"per_cpu/{cpu}/stats"), re.MULTILINE):
                return True
    return False


def _locked_top(tracefs: Tracefs) -> int:
    """A locked descriptor that says that the top level is ours. Raises InsituError while it is in use."""
    try:
        lock = tracefs.open_file("current_tracer", os.O_RDONLY)
    except OSError as error:
        raise InsituError(f"cannot open the tracing file system: {os.strerror(error.errno or 0)}") from None
    user = ""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (tracer := tracefs.read("current_tracer").strip()) != "nop":
            user = f"the tracer {tracer} is on"
        elif events := _events_at_top(tracefs):
            user = f"the event {events[0]} is on"
        elif _recorded_at_top(tracefs):
            user = "its buffer holds what somebody has recorded (echo > trace empties it)"
    except BlockingIOError:
        user = "another insitu uses it"
    except OSError as error:
        user = os.strerror(error.errno or 0)
    if not user:
        return lock
    os.close(lock)
    raise InsituError(
        f"ftrace's top level is in use: {user}",
        remedy="this kernel has the tracer nowhere else; end the other tracing first",
    )


# What a recording at the top level may have set, and what the kernel starts with.
_DEFAULTS: Final = (
    ("current_tracer", "nop"),
    ("set_event", ""),
    ("set_ftrace_filter", ""),
    ("set_ftrace_notrace", ""),
    ("set_graph_function", ""),
    ("set_graph_notrace", ""),
    ("set_ftrace_pid", ""),
    ("set_event_pid", ""),
    ("max_graph_depth", "0"),
    ("tracing_thresh", "0"),
    ("options/event-fork", "0"),
    ("options/function-fork", "0"),
    ("options/func_stack_trace", "0"),
    ("trace_clock", "local"),
    ("trace", ""),
    ("tracing_on", "1"),
)


def _is_left_as_we_set_it(tracefs: Tracefs) -> bool:
    """Whether the top level has one of our tracers, our clock, and no events, which others would have."""
    with contextlib.suppress(OSError):
        tracer = tracefs.read("current_tracer").strip()
        return (
            tracer in ("nop", "function", "function_graph")
            and _selected(tracefs.read("trace_clock")) == "mono"
            and not _events_at_top(tracefs)
        )
    return False


def _reset_top(tracefs: Tracefs) -> None:
    for path, text in _DEFAULTS:
        with contextlib.suppress(OSError):
            tracefs.write(path, text)


def _selected(choices: str) -> str:
    """The word in brackets, as in "[local] global mono"."""
    match = re.search(r"\[(\S+)\]", choices)
    return match[1] if match else "local"
