"""The open descriptors of a process: what each is open on, and who has the other end."""

# Links of /proc/PID/fd are names of open files, not paths.
# ruff: noqa: PTH115, PTH116

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.inspect.socket_list import Socket, sockets_of
from insitu.kernel import procfs

__all__ = ["Descriptor", "End", "descriptor_limit", "descriptors", "ends_of"]

_LINK: Final = re.compile(r"(?P<kind>socket|pipe):\[(?P<inode>\d+)\]")
_ANONYMOUS: Final = re.compile(r"anon_inode:\[?([^\]]+)\]?")
_DELETED: Final = " (deleted)"
_ACCESS: Final = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}
_FLAGS: Final = {
    "append": os.O_APPEND,
    "nonblock": os.O_NONBLOCK,
    "direct": os.O_DIRECT,
    "sync": os.O_DSYNC,
    "path": os.O_PATH,
    "cloexec": os.O_CLOEXEC,
}
_MODES: Final = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISFIFO, "fifo"),
)
_MOST_DETAILS: Final = 4  # of what an epoll or inotify descriptor watches


class End(NamedTuple):
    """A process that has the other end of a pipe or socket."""

    pid: int
    name: str
    descriptor: int


class Descriptor(NamedTuple):
    """An open descriptor. ``target`` is a path or what it is; ``details`` say more, such as a socket's state."""

    number: int
    kind: str
    target: str
    access: str
    """r, w or rw."""
    flags: tuple[str, ...]
    offset: int
    inode: int
    socket: Socket | None
    details: str


def descriptors(pid: int) -> list[Descriptor]:
    """The descriptors of a process, in ascending order. Raises InsituError: not there, or not to be looked at."""
    directory = f"/proc/{pid}/fd"
    try:
        numbers = sorted(int(name) for name in os.listdir(directory))  # noqa: PTH208
    except FileNotFoundError:
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError:
        raise InsituError(f"the descriptors of process {pid} are another user's", remedy="sudo insitu ...") from None
    sockets: Mapping[int, Socket] | None = None
    found = []
    for number in numbers:
        try:
            link = os.readlink(f"{directory}/{number}")
            info = _info(pid, number)
        except OSError:  # closed since
            continue
        if link.startswith("socket:") and sockets is None:
            sockets = sockets_of(pid)
        found.append(_descriptor(pid, number, link, info, sockets or {}))
    return found


def _info(pid: int, number: int) -> dict[str, list[str]]:
    """/proc/PID/fdinfo/N: the values of each name, which may come several times."""
    fields: dict[str, list[str]] = {}
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            name, _, value = line.partition(":")
            if name.startswith("inotify wd"):
                name, value = "inotify", line
            fields.setdefault(name.strip(), []).append(value.strip())
    return fields


def _descriptor(
    pid: int, number: int, link: str, info: Mapping[str, list[str]], sockets: Mapping[int, Socket]
) -> Descriptor:
    flags = int(info.get("flags", ["0"])[0], 8)
    offset = int(info.get("pos", ["0"])[0])
    inode, socket, details = 0, None, ""
    target = link
    if match := _LINK.fullmatch(link):
        kind, inode = match["kind"], int(match["inode"])
        if kind == "socket":
            socket = sockets.get(inode)
            target = socket.text if socket else "not connected or bound"
            kind = f"{socket.protocol} socket" if socket else "socket"
            details = socket.details if socket else ""
    elif match := _ANONYMOUS.fullmatch(link):
        kind = match[1]
        target, details = "", _anonymous(kind, info)
    elif link.startswith("/memfd:"):
        kind, details = "memfd", _size(pid, number)
    else:
        kind = "file"
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/fd/{number}")
            inode = status.st_ino
            kind = next((name for test, name in _MODES if test(status.st_mode)), "file")
            if link.endswith(_DELETED) and not status.st_nlink:
                details = f"deleted, {status.st_blocks * 512:,} bytes on the disk"
    access = _ACCESS.get(flags & os.O_ACCMODE, "")
    names = tuple(name for name, bit in _FLAGS.items() if flags & bit == bit)
    locks = info.get("lock", ())
    if locks:
        details = "; ".join(filter(None, [details, f"{len(locks)} {'lock' if len(locks) == 1 else 'locks'}"]))
    return Descriptor(number, kind, target, access, names, offset, inode, socket, details)


def _anonymous(kind: str, info: Mapping[str, list[str]]) -> str:
    """What /proc says of an epoll, eventfd, timerfd and the like."""
    if kind == "eventpoll":
        watched = sorted((each.split()[0] for each in info.get("tfd", ())), key=int)
        return f"watches {len(watched)} descriptors{_some(watched)}" if watched else "watches nothing"
    if kind == "inotify":
        count = len(info.get("inotify", ()))
        return f"{count} {'watch' if count == 1 else 'watches'}"
    for name, words in (
        ("eventfd-count", "count {}"),
        ("Pid", "process {}"),
        ("sigmask", "signals {}"),
        ("ticks", "{} ticks"),
        ("prog_id", "program {}"),
        ("map_id", "map {}"),
        ("SqEntries", "{} entries"),
    ):
        if name in info:
            return words.format(info[name][0].strip())
    return ""


def _some(numbers: list[str]) -> str:
    shown = ", ".join(numbers[:_MOST_DETAILS])
    return f" ({shown}{', ...' if len(numbers) > _MOST_DETAILS else ''})"


def _size(pid: int, number: int) -> str:
    with contextlib.suppress(OSError):
        return f"{os.stat(f'/proc/{pid}/fd/{number}').st_size:,} bytes"
    return ""


def descriptor_limit(pid: int) -> tuple[int, int]:
    """How many descriptors a process may have open: the soft and the hard limit. 0: not known."""
    for line in (procfs.text(f"/proc/{pid}/limits") or "").splitlines():
        if line.startswith("Max open files"):
            words = line.split()
            return int(words[3]), int(words[4])
    return 0, 0


def ends_of(pid: int, found: Iterable[Descriptor]) -> dict[int, list[End]]:
    """By descriptor: who has the other end of each pipe and each socket, as far as this user may see."""
    wanted: dict[str, list[Descriptor]] = {}
    for each in found:
        if each.kind == "pipe":
            wanted.setdefault(f"pipe:[{each.inode}]", []).append(each)
        elif each.socket is not None and each.socket.peer:
            wanted.setdefault(f"socket:[{each.socket.peer}]", []).append(each)
    ends: dict[int, list[End]] = {}
    if not wanted:
        return ends
    for other in procfs.pids():
        try:
            numbers = os.listdir(f"/proc/{other}/fd")  # noqa: PTH208
        except OSError:
            continue
        for number in numbers:
            try:
                link = os.readlink(f"/proc/{other}/fd/{number}")
                for each in wanted.get(link, ()):
                    if other == pid and int(number) == each.number:
                        continue
                    if each.kind == "pipe" and not _is_other_end(other, number, each):
                        continue
                    name = procfs.comm(other).decode(errors="replace")
                    ends.setdefault(each.number, []).append(End(other, name, int(number)))
            except OSError:
                continue
    return ends


def _is_other_end(pid: int, number: str, mine: Descriptor) -> bool:
    flags = int(_info(pid, int(number)).get("flags", ["0"])[0], 8)
    return _ACCESS.get(flags & os.O_ACCMODE, "") != mine.access or mine.access == "rw"
