"""What file descriptors are open on, as strace(1) -y and -yy show it, from /proc and sock_diag(7).

All is printable: what a traced program may have named is escaped as its strings are.
"""

# Links of /proc/PID/fd are names of open files, not paths: pathlib gives no more here.
# ruff: noqa: PTH115, PTH116

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from typing import Final

from insitu.kernel import procfs
from insitu.syscalls.kinds.strings import quoted
from insitu.syscalls.socket_tables import netlink_name, socket_row
from insitu.syscalls.sockets import internet_text, unix_text

__all__ = ["DescriptorText", "file_text"]

_AT_FDCWD: Final = -100
_MOST_CACHED: Final = 4096
_SOCKET = re.compile(rb"socket:\[(\d+)\]$")
_DELETED: Final = b" (deleted)"
_INTERNET: Final = {"TCP": "tcp", "UDP": "udp", "TCPv6": "tcp6", "UDPv6": "udp6", "UDP-Lite": "udplite"}
"""Protocols, and their files in /proc/PID/net."""

# include/uapi/linux/unix_diag.h, sock_diag.h
_UNIX_REQUEST: Final = struct.Struct("=IHHIIBBHIIIII")
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_SHOW_NAME_AND_PEER: Final = 1 | 4
_UNIX_DIAG_NAME: Final = 0
_UNIX_DIAG_PEER: Final = 2
_UNIX_HEAD: Final = 32  # struct nlmsghdr and struct unix_diag_msg


class DescriptorText:
    """Describes descriptors. The addresses of a socket are asked for until it has some, as strace does."""

    def __init__(self, level: int) -> None:
        """``level``: 1 for -y, 2 for -yy."""
        self._level = level
        self._sockets: dict[int, str] = {}

    def describe(self, tid: int, descriptor: int) -> str:
        """Returns what a thread's descriptor is open on, "" if it is not open or may not be looked at.

        AT_FDCWD is the working directory. Of a deleted file ``>(deleted)`` follows: strace closes its bracket before.
        """
        place = f"/proc/{tid}/cwd" if descriptor == _AT_FDCWD else f"/proc/{tid}/fd/{descriptor}"
        try:
            link = os.readlink(place.encode())
        except OSError:
            return ""
        found = _SOCKET.match(link)
        if found and self._level > 1:
            return self._socket(tid, place, int(found[1]))
        if link == b"anon_inode:[pidfd]" and self._level > 1:
            return _process_of(tid, descriptor) or _escaped(link)
        if not link.startswith(b"/"):
            return _escaped(link)
        return self._file(place, link)

    def _file(self, place: str, link: bytes) -> str:
        deleted = link.endswith(_DELETED)
        if deleted or self._level > 1:
            try:
                # Through the link of /proc: the open file itself, whatever its name leads to here.
                about = os.stat(place)
            except OSError:
                return _escaped(link)
            deleted &= not about.st_nlink
            device = os.major(about.st_rdev), os.minor(about.st_rdev)
            return file_text(link, about.st_mode, device, deleted=deleted, level=self._level)
        return _escaped(link)

    def _socket(self, tid: int, place: str, inode: int) -> str:
        if inode in self._sockets:
            return self._sockets[inode]
        try:
            protocol = os.getxattr(place, "system.sockprotoname").rstrip(b"\0").decode()
        except (OSError, UnicodeDecodeError):
            return f"socket:[{inode}]"
        text = ""
        if protocol in _INTERNET:
            text = _internet(tid, _INTERNET[protocol], inode)
        elif protocol in ("UNIX", "UNIX-STREAM"):
            text = _unix(inode)
        elif protocol == "NETLINK":
            row = socket_row(tid, "netlink", inode)
            text = f"{netlink_name(row[1])}:{row[2]}" if row else ""
        elif protocol not in _PLAIN:
            return f"socket:[{inode}]"
        if not text:
            return f"{protocol}:[{inode}]"
        if len(self._sockets) >= _MOST_CACHED:
            self._sockets.clear()
        self._sockets[inode] = f"{protocol}:[{text}]"
        return self._sockets[inode]


def file_text(link: bytes, mode: int, device: tuple[int, int], *, deleted: bool, level: int) -> str:
    """Returns the text of an open file. ``mode`` and ``device`` (major, minor) are those of its inode; ``deleted``:
    the link ends with what the kernel adds to a name that is gone."""
    suffix = ""
    if deleted:
        link, suffix = link[: -len(_DELETED)], ">(deleted)"
    kind = "char" if stat.S_ISCHR(mode) else "block" if stat.S_ISBLK(mode) else ""
    if kind and level > 1:
        suffix = f"<{kind} {device[0]}:{device[1]}>{suffix}"
    return _escaped(link) + suffix


_PLAIN: Final = ("RAW", "RAWv6", "PING", "PINGv6")


def _escaped(name: bytes) -> str:
    text = quoted(name)[1:-1]
    for byte in "<>":
        text = re.sub(f"{byte}(?=[0-7])", f"\\\\{ord(byte):03o}", text).replace(byte, f"\\{ord(byte):o}")
    return text


def _process_of(tid: int, descriptor: int) -> str:
    for line in (procfs.text(f"/proc/{tid}/fdinfo/{descriptor}") or "").splitlines():
        if line.startswith("Pid:"):
            return f"pid:{line.split()[1]}"
    return ""


def _internet(tid: int, table: str, inode: int) -> str:
    row = socket_row(tid, table, inode)
    if row is None:
        return ""
    return internet_text(*_address(row[1]), *_address(row[2]))


def _address(text: str) -> tuple[bytes, int]:
    """Returns the address and the port of "0100007F:0050": the address is in words of this machine's byte order."""
    words, _, port = text.partition(":")
    return b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8)), int(port, 16)


def _unix(inode: int) -> str:
    """Returns ``123->124,"/run/x"``: of a socket in our network namespace."""
    body = (socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_NAME_AND_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    request = _UNIX_REQUEST.pack(_UNIX_REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0, *body)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            diag.send(request)
            answer = diag.recv(8192)
    except OSError:
        return ""
    if len(answer) < _UNIX_HEAD or int.from_bytes(answer[4:6], "little") != _SOCK_DIAG_BY_FAMILY:
        return ""
    name, peer, at = b"", 0, _UNIX_HEAD
    while at + 4 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, at)
        data = answer[at + 4 : at + size]
        if size < 4:
            break
        if kind == _UNIX_DIAG_NAME:
            name = data
        elif kind == _UNIX_DIAG_PEER and len(data) == 4:
            peer = struct.unpack("=I", data)[0]
        at += size + 3 & ~3
    return unix_text(inode, peer, name)
