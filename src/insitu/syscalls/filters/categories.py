"""What calls are about, in sysdig's words: its documentation of the fields evt.category, evt.io_dir, evt.is_wait."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.filters.subject import Descriptor
from insitu.syscalls.signature import signatures

__all__ = ["CATEGORIES", "READS", "WRITES", "category", "is_wait"]

READS: Final = frozenset(["read", "pread64", "readv", "preadv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"])
WRITES: Final = frozenset(
    ["write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "sendfile"]
)
_SLEEPS: Final = frozenset(["nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "pause"])
_WAITS: Final = frozenset(
    [
        *("select", "_newselect", "pselect6", "pselect6_time64", "poll", "ppoll", "ppoll_time64"),
        *("epoll_wait", "epoll_pwait", "epoll_pwait2"),
    ]
)
_BY_GROUP: Final = {
    "network": "net",
    "process": "process",
    "signal": "signal",
    "memory": "memory",
    "ipc": "IPC",
    "creds": "user",
    "clock": "time",
    "file": "file",
}
_BY_DESCRIPTOR: Final = {
    "ipv4": "net",
    "ipv6": "net",
    "unix": "net",
    "socket": "net",
    "netlink": "net",
    "pipe": "IPC",
}
CATEGORIES: Final = frozenset([*_BY_GROUP.values(), "sleep", "wait", "scheduler", "other"])


def category(name: str, descriptor: Descriptor | None) -> str:
    """Returns one of CATEGORIES; of read(), close() and the like by what the descriptor is open on."""
    if name in _SLEEPS:
        return "sleep"
    if name in _WAITS:
        return "wait"
    if name.startswith("sched_"):
        return "scheduler"
    signature = signatures().get(name)
    groups = signature.groups if signature else ()
    for group, word in _BY_GROUP.items():
        if group in groups:
            return word
    if "desc" in groups:
        return _BY_DESCRIPTOR.get(descriptor.type[0] if descriptor else "", "file")
    return "other"


def is_wait(name: str) -> bool:
    """Returns whether a call is one to sleep, or to wait for descriptors."""
    return name in _SLEEPS | _WAITS
