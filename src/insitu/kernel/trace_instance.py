"""Tracing into a buffer of our own: a tracefs instance, which nobody else's tracing sees and which ends with us."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from insitu.errors import InsituError
from insitu.kernel.shared_settings import SharedSettings, setting
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_leftovers import leave_nothing, remove_dead, remove_instance
from insitu.kernel.tracefs_owner import owner_name

__all__ = ["GRAPH_LISTS", "Shared", "TraceInstance", "trace_page_bytes"]

Shared = Literal["nothing", "lists", "everything"]
"""What of the whole machine's ftrace a recording has to change. "lists": from which functions the function_graph
tracer starts, and the depth, which instances do not have. "everything": the tracer is not in instances."""

_LOCK: Final = "current_tracer"
_GRAPH: Final = "function_graph"
GRAPH_LISTS: Final = ("set_graph_function", "set_graph_notrace", "max_graph_depth")
"""What most kernels have once for all function_graph tracers."""
_OTHER_LISTS: Final = ("set_ftrace_filter", "set_ftrace_notrace", "set_ftrace_pid", "set_event_pid")
_CPU: Final = re.compile(r"cpu(\d+)")


class TraceInstance:
    """A tracefs instance, named after its owner (``owner_name``); or the top level of tracefs.

    All that is written goes with the instance, or is put back, by ``close``.
    """

    _made = 0

    def __init__(
        self, tracefs: Tracefs, name: str, shared: SharedSettings | None = None, *, top: bool = False
    ) -> None:
        """``name`` is a directory in instances/, which ``top`` does without. ``shared`` is closed with it."""
        self._tracefs = tracefs
        self._name = name
        self._shared = shared
        self._top = top
        self._prefix = "" if top else f"instances/{name}/"
        self._added: list[str] = []
        self._open = True
        self.cpus: tuple[int, ...] = ()

    @classmethod
    def create(cls, tracefs: Tracefs, *, shares: Shared = "nothing", buffer_kb: int = 0) -> TraceInstance:
        """A stopped instance with CLOCK_MONOTONIC's times; ``buffer_kb`` is for each CPU (0: the kernel's choice).

        What dead owners left is removed first. Raises InsituError where the kernel refuses it, or if what it would
        share is in use.
        """
        remove_dead(tracefs)
        leave_nothing()
        cls._made += 1
        name = f"{owner_name()}-{cls._made}"
        shared = None if shares == "nothing" else _share(tracefs, name, shares)
        instance = cls(tracefs, name, shared, top=shares == "everything")
        try:
            instance._set_up(buffer_kb)
        except OSError as error:
            instance.close()
            refused = error.errno in (errno.EPERM, errno.EACCES)
            raise InsituError(
                f"cannot set up tracing in the tracing file system: {os.strerror(error.errno or 0)}",
                remedy="needs root, CAP_DAC_OVERRIDE, or write access to tracefs" if refused else "",
            ) from None
        except BaseException:
            instance.close()
            raise
        return instance

    def _set_up(self, buffer_kb: int) -> None:
        if not self._top:
            self._tracefs.make_directory(self._prefix)
        found = [_CPU.fullmatch(each) for each in self._tracefs.names(f"{self._prefix}per_cpu")]
        self.cpus = tuple(sorted(int(match[1]) for match in found if match))
        self.write("tracing_on", "0")
        self.write("trace_clock", "mono")
        if buffer_kb:
            self._set_buffer(str(buffer_kb))
        for path in (*GRAPH_LISTS, *_OTHER_LISTS) if self._top else ():  # what somebody left there would restrict us
            if setting(self._tracefs, path) not in ("", "0"):
                self.write(path, "0" if path == "max_graph_depth" else "")

    def _set_buffer(self, kb: str) -> None:
        if self.read("buffer_size_kb").strip() != "X":  # of different sizes
            self.write("buffer_size_kb", kb)
            return
        for cpu in self.cpus:
            self.write(f"per_cpu/cpu{cpu}/buffer_size_kb", kb)

    def read(self, path: str) -> str:
        """A file's text, relative to the instance. :raises OSError:"""
        return self._tracefs.read(self._prefix + path)

    def write(self, path: str, text: str) -> None:
        """Write as ``echo text > path`` does. :raises OSError:"""
        if self._shared is not None and (self._top or path in GRAPH_LISTS):
            self._shared.set(path, text)
        else:
            self._tracefs.write(self._prefix + path, text)

    def append(self, path: str, text: str) -> None:
        """Write as ``echo text >> path`` does. :raises OSError:"""
        self._tracefs.append(self._prefix + path, text)

    def add(self, path: str, text: str) -> None:
        """Append to a list such as an event's triggers; ``close`` empties it. :raises OSError:"""
        self._added.append(path)
        self.append(path, text)

    def open(self, path: str, flags: int) -> int:
        """A descriptor of a file. :raises OSError:"""
        return self._tracefs.open_file(self._prefix + path, flags)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._tracefs.exists(self._prefix + path)

    def list_text(self, path: str) -> str:
        """A list of functions, also one that the machine has only once; empty for none. :raises OSError:"""
        return setting(self._tracefs, path if path in GRAPH_LISTS and self._shared else self._prefix + path)

    def counts(self, cpu: int) -> Mapping[str, int]:
        """The counts of per_cpu/cpuN/stats: "entries", "overrun" (overwritten), "dropped events", "bytes" ..."""
        return _counts(self.read(f"per_cpu/cpu{cpu}/stats"))

    def uses_no_lists(self) -> None:
        """Keep other insitus from setting the lists of functions of the machine, which restrict this one too.

        Raises InsituError where they are set.
        """
        self._shared = SharedSettings(self._tracefs, self._name, _LOCK, alone=False)
        try:
            if path := _list_in_use(self._tracefs):
                raise InsituError(f"ftrace is in use: somebody has set {path}", remedy=f"echo > {path} empties it")
        except OSError as error:
            raise InsituError(f"cannot read ftrace's settings: {os.strerror(error.errno or 0)}") from None

    def close(self) -> None:
        """Stop, put back what was set, and remove the instance. Idempotent."""
        if not self._open:
            return
        self._open = False
        if not self._top:
            for path, text in (("tracing_on", "0"), *((path, "") for path in reversed(self._added))):
                with contextlib.suppress(OSError):
                    self._tracefs.write(self._prefix + path, text)
            remove_instance(self._tracefs, self._name)
        if self._shared is not None:
            self._shared.restore()


def _share(tracefs: Tracefs, name: str, shares: Shared) -> SharedSettings:
    """What changes the settings of the machine. Raises InsituError while that would disturb others."""
    settings = SharedSettings(tracefs, name, _LOCK)
    try:
        user = _user_of_top(tracefs) if shares == "everything" else _user_of_lists(tracefs)
    except OSError as error:
        user = os.strerror(error.errno or 0)
    if user:
        settings.restore()
        raise InsituError(
            f"ftrace is in use: {user}",
            remedy="this kernel has what -g needs only once for the machine; end the other tracing first",
        )
    return settings


def trace_page_bytes(read: Callable[[str], str]) -> int:
    """The most that a read of trace_pipe_raw returns: a page; since Linux 6.8 somebody may have changed it.

    ``read`` reads files of an instance, or of the top level.
    """
    with contextlib.suppress(OSError, ValueError):
        return int(read("buffer_subbuf_size_kb")) << 10
    return os.sysconf("SC_PAGE_SIZE")


def _counts(stats: str) -> Mapping[str, int]:
    found = {}
    for line in stats.splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdecimal():
            found[name.strip()] = int(value)
    return found


def _user_of_top(tracefs: Tracefs) -> str:
    """Who uses the top level of tracefs; empty: nobody. :raises OSError:"""
    if (tracer := tracefs.read("current_tracer").strip()) != "nop":
        return f"the tracer {tracer} is on"
    # The kernel switches this one on for BPF programs, and it records nothing of itself.
    events = [each for each in tracefs.read("set_event").split() if each != "bpf_trace:bpf_trace_printk"]
    if events:
        return f"the event {events[0]} is on"
    if any(":" in line for line in tracefs.read("set_ftrace_filter").splitlines()):
        return "set_ftrace_filter has triggers"
    for cpu in tracefs.names("per_cpu"):
        with contextlib.suppress(FileNotFoundError):  # a CPU that went offline
            if _counts(tracefs.read(f"per_cpu/{cpu}/stats")).get("entries"):
                return "its buffer holds what somebody has recorded (echo > trace empties it)"
    return ""


def _user_of_lists(tracefs: Tracefs) -> str:
    """Who would be disturbed by lists for the function_graph tracer, or has set them. :raises OSError:"""
    if path := _list_in_use(tracefs):
        return f"somebody has set {path}"
    for name in ("", *(f"instances/{each}/" for each in tracefs.names("instances"))):
        with contextlib.suppress(FileNotFoundError):
            if tracefs.read(f"{name}current_tracer").strip() == _GRAPH:
                return f"the tracer {_GRAPH} is on{' in ' * bool(name)}{name.rstrip('/')}"
    return ""


def _list_in_use(tracefs: Tracefs) -> str:
    return next((path for path in GRAPH_LISTS if setting(tracefs, path) not in ("", "0")), "")
