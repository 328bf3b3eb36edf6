"""Texts of sockets as strace(1) -yy shows them, and what the eBPF engine reads of their struct sock."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from insitu.syscalls.kinds.strings import quoted
from insitu.syscalls.socket_tables import netlink_name

__all__ = ["Sockets", "State", "internet_text", "netlink_word", "unix_text"]

_PROTOCOLS: Final = ("TCP", "UDP", "TCPv6", "UDPv6", "UDP-Lite", "RAW", "RAWv6", "PING", "PINGv6")
_MOST_KEPT: Final = 1 << 16
_NUL: Final = b"\0"


class State(NamedTuple):
    """The fields of a ``socket`` record of record/sources/syscalls_script.py, but for the name that follows them."""

    inode: int
    protocol: int
    """16 bytes of the protocol's name (struct proto), with the next one."""
    protocol_more: int
    netlink: int
    """Protocol of a netlink socket."""
    port: int
    remote_port: int
    """In network byte order."""
    ipv4: int
    remote_ipv4: int
    ipv6: int
    ipv6_more: int
    remote_ipv6: int
    remote_ipv6_more: int
    peer: int
    """Inode of the other UNIX socket, or the id of a netlink socket; 0: none."""


class Sockets:
    """What is known of sockets, by their inodes: the first addresses that one has, as strace(1) shows them."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._addressed: set[int] = set()

    def text(self, link: str) -> str:
        """Returns the text for ``socket:[INODE]``; any other text as it is."""
        return self._texts.get(link, link)

    def opened(self, inode: int, path: str) -> None:
        """Take a socket that a descriptor is open on. Of one that was open before, ``path`` is the text."""
        if ":[" in path:
            self._set(inode, path)

    def _set(self, inode: int, text: str) -> None:
        if len(self._texts) >= _MOST_KEPT:
            del self._texts[next(iter(self._texts))]
        self._texts[f"socket:[{inode}]"] = text
        if not text.endswith(f":[{inode}]"):
            self._addressed.add(inode)

    def add(self, state: State, name: bytes) -> None:
        """Take a record. ``name`` is the struct sockaddr_un that a UNIX socket is bound to."""
        protocol = struct.pack("<2Q", state.protocol, state.protocol_more).partition(_NUL)[0].decode("latin-1")
        if state.inode in self._addressed:
            return
        text = ""
        if protocol in ("UNIX", "UNIX-STREAM"):
            text = unix_text(state.inode, state.peer, name[2:])
            if state.peer and state.peer not in self._addressed:
                # Its own name, if it has one, comes with a record of its own.
                self._texts[f"socket:[{state.peer}]"] = f"{protocol}:[{unix_text(state.peer, state.inode, b'')}]"
        elif protocol == "NETLINK":
            text = f"{netlink_name(str(state.netlink))}:{state.peer}" if state.peer else ""
        elif protocol.startswith(("TCP", "UDP")):
            text = _internet(state, protocol)
        elif protocol not in _PROTOCOLS:
            return
        self._set(state.inode, f"{protocol}:[{text or state.inode}]")


def _internet(state: State, protocol: str) -> str:
    if not state.port:
        return ""
    if protocol.endswith("v6"):
        local = struct.pack("<2Q", state.ipv6, state.ipv6_more)
        remote = struct.pack("<2Q", state.remote_ipv6, state.remote_ipv6_more)
    else:
        local, remote = struct.pack("<I", state.ipv4), struct.pack("<I", state.remote_ipv4)
    return internet_text(local, state.port, remote, socket.ntohs(state.remote_port))


def netlink_word(protocol: int, port: int) -> str:
    """Returns Pieces.netlink of a netlink socket: a protocol, or "unknown" if it is not bound yet."""
    return netlink_name(str(protocol)) if port else "unknown"


def internet_text(local: bytes, port: int, remote: bytes, remote_port: int) -> str:
    """Returns ``127.0.0.1:40000->127.0.0.1:80``; the first half of a socket that is not connected."""
    text = _address(local, port)
    return f"{text}->{_address(remote, remote_port)}" if remote_port else text


def _address(data: bytes, port: int) -> str:
    if len(data) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, data)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, data)}]:{port}"


def unix_text(inode: int, peer: int, name: bytes) -> str:
    """Returns ``123->124,"/run/x"``; "" of a socket that has neither a peer nor a name."""
    if not peer and not name:
        return ""
    text = f"{inode}->{peer}" if peer else str(inode)
    if name.startswith(_NUL):
        return f"{text},@{quoted(name[1:])}"
    return f"{text},{quoted(name.rstrip(_NUL))}" if name else text
