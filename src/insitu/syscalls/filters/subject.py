"""What a filter expression is asked about: a call, with its process and descriptor."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

__all__ = ["DESCRIPTOR_TYPES", "Argument", "Descriptor", "Process", "Subject"]


class Argument(NamedTuple):
    """One argument of the call."""

    name: str
    value: int
    text: str


@dataclass(frozen=True)
class Process:
    """A process at the time of the call. None and "": not known."""

    pid: int
    ppid: int | None = None
    name: str = ""
    exe: str = ""
    """Path of its program."""
    args: tuple[str, ...] = ()
    """argv"""
    cwd: str = ""
    uid: int | None = None
    gid: int | None = None
    vpid: int | None = None
    """Its id in its own pid namespace."""
    cgroup: str = ""
    parent: Process | None = None

    @property
    def ancestors(self) -> list[Process]:
        """Its parent, the parent's parent, and so on."""
        found: list[Process] = []
        each = self.parent
        while each is not None and len(found) < _MOST_ANCESTORS:
            found.append(each)
            each = each.parent
        return found

    @property
    def container(self) -> tuple[str, str]:
        """Id and name of its container, by its cgroup; "host" for one of none."""
        for pattern in _CONTAINERS:
            found = pattern.search(self.cgroup)
            if found:
                name = found[1]
                return (name[:12], name[:12]) if len(name) == _ID_DIGITS else (name, name)
        return "host", "host"


_MOST_ANCESTORS: Final = 64
_ID_DIGITS: Final = 64
# docker-ID.scope, /docker/ID, cri-containerd-ID.scope, libpod-ID.scope; machined's and LXC's containers by name.
_CONTAINERS: Final = (
    re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?:/|$)"),
    re.compile(r"/machine-([^/]+)\.scope"),
    re.compile(r"/lxc(?:\.payload)?[./]([^/]+)"),
)

_SOCKET: Final = re.compile(
    r"(TCPv6|TCP|UDPv6|UDP|UDPLITEv6|UDPLITE|RAWv6|RAW|SCTPv6|SCTP|DCCPv6|DCCP):\[(\S+?)(?:->(\S+))?\]$"
)
_ADDRESS: Final = re.compile(r"\[?([0-9A-Fa-f.:]+?)\]?:(\d+)$")


@dataclass(frozen=True)
class Descriptor:
    """The file descriptor that a call is about; ``number`` is None where only a path was given."""

    number: int | None
    name: str
    """As -yy shows it: a path, ``TCP:[127.0.0.1:40000->127.0.0.1:80]``, ``pipe:[123]``."""

    @cached_property
    def type(self) -> tuple[str, str]:
        """sysdig's name and letter of the type."""
        name = self.name
        socket = _SOCKET.match(name)
        if socket:
            return ("ipv6", "6") if socket[1].endswith("v6") else ("ipv4", "4")
        for prefix, type_ in _TYPES:
            if name.startswith(prefix):
                return type_
        if not name:
            return "", ""
        return ("directory", "d") if name.endswith("/") or _is_directory(name) else ("file", "f")

    @property
    def protocol(self) -> str:
        """ "tcp", "udp" and so on; "" for no IP socket."""
        socket = _SOCKET.match(self.name)
        return socket[1].removesuffix("v6").lower() if socket else ""

    @cached_property
    def addresses(self) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
        """Local and remote address and port."""
        socket = _SOCKET.match(self.name)
        return (_address(socket[2]), _address(socket[3])) if socket else (None, None)

    @property
    def client_and_server(self) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
        """The same, ordered: a server's port is the lower one, as ephemeral ports are high."""
        local, remote = self.addresses
        if local is None or remote is None:
            return None, local
        return (remote, local) if local[1] < remote[1] else (local, remote)


_TYPES: Final = (
    ("UNIX", ("unix", "u")),
    ("socket:", ("socket", "o")),
    ("NETLINK", ("netlink", "n")),
    ("pipe:", ("pipe", "p")),
    ("anon_inode:[eventfd", ("event", "e")),
    ("anon_inode:[eventpoll", ("eventpoll", "l")),
    ("anon_inode:[signalfd", ("signalfd", "s")),
    ("anon_inode:[timerfd", ("timerfd", "t")),
    ("anon_inode:inotify", ("inotify", "i")),
    ("anon_inode:", ("other", "o")),
)


DESCRIPTOR_TYPES: Final = frozenset(("ipv4", "ipv6", "file", "directory", *(word for _, (word, _) in _TYPES)))
"""What fd.type may be."""


def _is_directory(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - a path of foreign bytes


def _address(text: str | None) -> tuple[str, int] | None:
    found = _ADDRESS.match(text) if text else None
    return (found[1], int(found[2])) if found else None


@dataclass
class Subject:
    """A call that has returned, or never will (``ret`` None). Times in ns; ``unix_ns`` is CLOCK_REALTIME."""

    number: int
    """How many calls were asked about before it."""
    name: str
    unix_ns: int
    pid: int
    tid: int
    dur_ns: int | None
    ret: int | None
    error: str
    """ENOENT; "" if it has not failed."""
    process_of: Callable[[], Process]
    arguments_of: Callable[[], list[Argument]]
    descriptor_of: Callable[[], Descriptor | None]
    cpu: int | None = None

    @cached_property
    def process(self) -> Process:
        """The process."""
        return self.process_of()

    @cached_property
    def arguments(self) -> list[Argument]:
        """The call's arguments."""
        return self.arguments_of()

    @cached_property
    def descriptor(self) -> Descriptor | None:
        """The descriptor or path that the call is about; None without one."""
        return self.descriptor_of()
