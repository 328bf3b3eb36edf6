"""Which netlink protocol a descriptor speaks, from /proc/PID/net/netlink (net/netlink/af_netlink.c).

A socket is in that list once it is bound, which its first message does too.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from insitu.syscalls.facts import facts_of

__all__ = ["netlink_protocol"]


def netlink_protocol(pid: int, fd: int) -> str:
    """Returns "ROUTE" of a process' descriptor, "unknown" of a netlink socket that is not bound yet; "" of what is
    not a netlink socket, or is not open any more.
    """
    try:
        link = str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    except OSError:
        return ""
    found = re.fullmatch(r"socket:\[(\d+)\]", link)
    if found is None or not _is_netlink(pid, fd, found[1]):
        return ""
    return _of_inode(pid, found[1]) or "unknown"


@functools.lru_cache(maxsize=4096)
def _is_netlink(pid: int, fd: int, inode: str) -> bool:
    try:
        return os.getxattr(f"/proc/{pid}/fd/{fd}", "system.sockprotoname").rstrip(b"\0") == b"NETLINK"
    except OSError:
        return False


def _of_inode(pid: int, inode: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/net/netlink").read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    for line in lines[1:]:
        words = line.split()
        if len(words) > 9 and words[9] == inode and words[1].isdecimal():
            name = facts_of("x86_64").constant("netlink_family", int(words[1]))
            return name.removeprefix("NETLINK_") if name else words[1]
    return ""
