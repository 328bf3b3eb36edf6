"""Settings of tracefs that the whole machine shares, changed for a while and put back.

Before each change, a file in a private directory is replaced that has what was there and what is written. After a
kill -9 the next insitu, or `insitu doctor --clean`, puts it back from there. A setting that somebody else has changed
meanwhile keeps their value.
"""

# A start without pathlib.
# ruff: noqa: PTH105, PTH108, PTH118, PTH123, PTH208

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import re
import stat
from collections.abc import Mapping
from typing import Final

import msgspec

from insitu.cache_home import cache_home, own_cache, own_directory
from insitu.errors import InsituError
from insitu.files import write_all
from insitu.kernel import procfs
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_owner import owner_is_dead, owner_is_this_process

__all__ = ["STACK_SWITCH", "SharedSettings", "restore_left", "setting"]

STACK_SWITCH: Final = "/proc/sys/kernel/stack_tracer_enabled"
"""The one such setting outside tracefs."""

_MOST_BYTES: Final = 8 << 20  # all functions of a kernel as a list are some 2 MB
_CACHE: Final = "settings"
_SUFFIX, _PARTIAL = ".settings", ".partial"
_MOST_ROUNDED_KB: Final = 64
_PATH: Final = re.compile(r"(?!.*\.\.)[a-z][\w./-]{0,200}", re.ASCII)
# The kernel changes these itself: ids of new and ended threads, the deepest stack so far. As long as the switch
# beside it has our value, so has the setting.
_CHANGED_BY_KERNEL: Final = {
    "set_ftrace_pid": "options/function-fork",
    "set_event_pid": "options/event-fork",
    "stack_max_size": STACK_SWITCH,
}


class _Change(msgspec.Struct, array_like=True):
    """``ours`` is all that has been written there: of the last a kill may have been too early."""

    path: str
    before: str
    ours: list[str]


class _Kept(msgspec.Struct):
    """The content of the file. Tracefs begins anew with each boot."""

    boot: str
    changes: list[_Change]


class SharedSettings:
    """Changes of one process, which ``restore`` puts back, the latest first.

    A lock on one file of tracefs (flock(2), which ends with the process) keeps other insitus away meanwhile.
    """

    def __init__(self, tracefs: Tracefs, name: str, lock_path: str, *, alone: bool = True) -> None:
        """``name`` starts with this process's owner_name. Not ``alone``: others that are not alone may be there too.

        Raises InsituError where others use it, or where no file could be kept.
        """
        self._tracefs = tracefs
        self._changes: dict[str, _Change] = {}
        self._name, self._file = name, ""
        try:
            self._lock = tracefs.open_file(lock_path, os.O_RDONLY)
        except OSError as error:
            raise InsituError(f"cannot open the tracing file system: {os.strerror(error.errno or 0)}") from None
        try:
            fcntl.flock(self._lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self.restore()
            raise InsituError(
                "what ftrace has only once for the machine is in use: another insitu uses it",
                remedy="wait until it has ended",
            ) from None

    def set(self, path: str, text: str) -> None:
        """Write ``text`` to a file of tracefs. :raises OSError:"""
        change = self._changes.pop(path, None)
        if change is None:
            before = setting(self._tracefs, path)
            # A list is emptied before it is filled.
            change = _Change(path, before, [""] if before and path.startswith("set_") else [])
        change.ours.append(text)
        self._changes[path] = change
        self._keep()
        _write(self._tracefs, path, text)
        if not path.startswith("set_") and (stored := setting(self._tracefs, path)) not in change.ours:
            change.ours.append(stored)  # the kernel's number may be smaller, or rounded
            self._keep()

    def restore(self) -> None:
        """Put back what still has our value, and unlock. Idempotent."""
        if self._changes:
            _, failed = _put_back(self._tracefs, self._changes)
            self._changes.clear()
            for path in (self._file + _PARTIAL, self._file):
                with contextlib.suppress(OSError):
                    if not failed:
                        os.unlink(path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _keep(self) -> None:
        self._file = self._file or _file(self._name)
        data = msgspec.json.encode(_Kept(procfs.boot_id(), list(self._changes.values())))
        if len(data) > _MOST_BYTES:
            raise InsituError(
                "ftrace's settings are too long to be put back later", remedy="echo > set_ftrace_filter"
            )
        fd = os.open(
            self._file + _PARTIAL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        os.replace(self._file + _PARTIAL, self._file)


def setting(tracefs: Tracefs, path: str) -> str:
    """What a setting is, as it can be written. :raises OSError:"""
    text = _read(tracefs, path)
    if path == "trace_clock":  # "[local] global mono"
        match = re.search(r"\[(\S+)\]", text)
        return match[1] if match else "local"
    if path.endswith("buffer_size_kb"):  # "7 (expanded: 1408)": with its first use it gets its usual size for good
        return str(re.findall(r"\d+", text)[-1])
    lines = [line for line in text.splitlines() if not line.startswith("#")]  # "#### all functions enabled ####"
    return "" if lines == ["no pid"] else " ".join(line.split()[0] for line in lines if line.strip())


def restore_left(tracefs: Tracefs, *, own: bool = False) -> list[str]:
    """Put back what dead owners, or with ``own`` this process, had set; returns what was put back."""
    restored: list[str] = []
    home = _home(make=False)
    names = os.listdir(home) if home is not None else []
    for name in sorted(names):
        owner = name.removesuffix(_PARTIAL).removesuffix(_SUFFIX)
        if owner != name and (owner_is_this_process(owner) if own else owner_is_dead(owner)):
            with contextlib.suppress(OSError):
                restored += _restored(tracefs, os.path.join(home or "", name))
    return restored


def _restored(tracefs: Tracefs, path: str) -> list[str]:
    """Put back what a file says, and remove it; several processes may come to do it at once."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = os.fstat(fd)
        done: list[str] = []
        failed = not found.st_nlink
        if not failed and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and path.endswith(_SUFFIX):
            done, failed = _put_back(tracefs, _changes(fd, found.st_size))
        if not failed:
            os.unlink(path)
        return done
    finally:
        os.close(fd)


def _changes(fd: int, size: int) -> Mapping[str, _Change]:
    """What is in a file; nothing if it is of another boot or cannot be read."""
    if size > _MOST_BYTES:
        return {}
    with open(fd, "rb", closefd=False) as file, contextlib.suppress(msgspec.DecodeError):
        kept = msgspec.json.decode(file.read(_MOST_BYTES), type=_Kept)
        if kept.boot == procfs.boot_id():
            return {
                each.path: each for each in kept.changes if each.path == STACK_SWITCH or _PATH.fullmatch(each.path)
            }
    return {}


def _put_back(tracefs: Tracefs, changes: Mapping[str, _Change]) -> tuple[list[str], bool]:
    """Put back what still has our value, the latest first; returns what was, and whether something failed."""
    ours, done, failed = [], [], False
    for change in reversed([*changes.values()]):
        with contextlib.suppress(OSError, IndexError, ValueError):  # of a CPU, or a tracer, that has gone
            now = setting(tracefs, change.path)
            if now != change.before and _is_ours(tracefs, change, now, changes):
                ours.append(change)
    for change in ours:
        try:
            _write(tracefs, change.path, change.before)
            if change.path == "current_tracer":
                tracefs.write("trace", "")  # what it has recorded
            done.append(change.path)
        except OSError:
            failed = True
    return done, failed


def _is_ours(tracefs: Tracefs, change: _Change, now: str, changes: Mapping[str, _Change]) -> bool:
    switch = changes.get(_CHANGED_BY_KERNEL.get(change.path, ""))
    if switch is not None:
        return setting(tracefs, switch.path) in switch.ours
    if change.path.endswith("buffer_size_kb"):  # the kernel has whole pages, of fewer bytes
        return any(0 <= int(now) - int(ours) < _MOST_ROUNDED_KB for ours in change.ours)
    return any(_is_of(now.split(), ours.split()) for ours in change.ours)


def _is_of(words: list[str], ours: list[str]) -> bool:
    """Whether words are all of a list, which may have been written in part, and has patterns for names."""
    patterns = [re.compile(fnmatch.translate(each)) for each in ours if any(sign in each for sign in "*?[")]
    known = set(ours)
    return bool(words) == bool(ours) and all(
        word in known or any(pattern.match(word) for pattern in patterns) for word in words
    )


def _read(tracefs: Tracefs, path: str) -> str:
    if path != STACK_SWITCH:
        return tracefs.read(path)
    with open(path, encoding="ascii") as file:
        return file.read()


def _write(tracefs: Tracefs, path: str, text: str) -> None:
    if path != STACK_SWITCH:
        tracefs.write(path, text)
        return
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _home(*, make: bool = True) -> str | None:
    """Where the files are: a directory that nobody else may write to; None if there is none, and none is made."""
    base = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    directory = os.path.join(base, "insitu")
    if base and (make or os.path.lexists(directory)) and (ours := own_directory(directory)) is not None:
        return ours
    if make or os.path.lexists(os.path.join(cache_home(), "insitu", _CACHE)):
        return own_cache(_CACHE)
    return None


def _file(name: str) -> str:
    home = _home()
    if home is None:
        raise InsituError(
            "there is no private directory in which to note what ftrace's settings were",
            remedy="needs /run/insitu, $XDG_RUNTIME_DIR or a cache directory of your own (XDG_CACHE_HOME)",
        )
    return os.path.join(home, name + _SUFFIX)
