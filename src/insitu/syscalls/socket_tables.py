"""What /proc/PID/net says of sockets, and which netlink protocol one speaks (net/netlink/af_netlink.c)."""

from __future__ import annotations

import functools
import os
import re
from typing import Final

from insitu.syscalls.facts import facts_of

__all__ = ["netlink_name", "netlink_protocol", "socket_row"]

_MOST_TABLE_BYTES: Final = 8 << 20
_INODE: Final = 9
"""The column of the inode, in the tables of IP and of netlink."""


def socket_row(tid: int, table: str, inode: int) -> list[str] | None:
    """Returns the line of a socket in /proc/PID/net, that is, in the network namespace of the program."""
    wanted = str(inode)
    try:
        with open(f"/proc/{tid}/net/{table}", "rb") as file:  # noqa: PTH123
            lines = file.read(_MOST_TABLE_BYTES).decode("latin-1").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) > _INODE and words[_INODE] == wanted:
            return words
    return None


def netlink_name(protocol: str) -> str:
    """Returns the name of a protocol by its number in decimal: "ROUTE" for "0"; the number if it has none."""
    name = facts_of("x86_64").constant("netlink_family", int(protocol))
    return name.removeprefix("NETLINK_") if name else protocol


def netlink_protocol(pid: int, fd: int) -> str:
    """Returns "ROUTE" of a process' descriptor, "unknown" of a netlink socket that is not bound yet; "" of what is
    not a netlink socket, or is not open any more.

    A socket is in the kernel's list once it is bound, which its first message does too.
    """
    try:
        link = os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115  # the name of an open file, not a path
    except OSError:
        return ""
    found = re.fullmatch(r"socket:\[(\d+)\]", link)
    if found is None or not _is_netlink(pid, fd, found[1]):
        return ""
    row = socket_row(pid, "netlink", int(found[1]))
    return netlink_name(row[1]) if row else "unknown"


@functools.lru_cache(maxsize=4096)
def _is_netlink(pid: int, fd: int, inode: str) -> bool:
    try:
        return os.getxattr(f"/proc/{pid}/fd/{fd}", "system.sockprotoname").rstrip(b"\0") == b"NETLINK"
    except OSError:
        return False
