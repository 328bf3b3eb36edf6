"""The sockets in the network namespace of a process, by inode: addresses, state, queues and the other end.

All from /proc/PID/net, which is that namespace's; the peers of UNIX sockets in ours by sock_diag(7).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from insitu.limits import EVENT_LOOP_FILES, refuse_few_descriptors

__all__ = ["Socket", "sockets_of"]

_MOST_BYTES: Final = 64 << 20  # of one table
# include/net/tcp_states.h
_STATES: Final = (
    "",
    "established",
    "syn sent",
    "syn received",
    "fin wait 1",
    "fin wait 2",
    "time wait",
    "close",
    "close wait",
    "last ack",
    "listen",
    "closing",
    "syn received",
)
_UNIX_STATES: Final = {1: "not connected", 2: "connecting", 3: "connected", 4: "disconnecting"}
_UNIX_TYPES: Final = {1: "stream", 2: "datagram", 5: "seqpacket"}
_LISTENS: Final = 1 << 16  # __SO_ACCEPTCON


class Socket(NamedTuple):
    """A socket. ``peer`` is the inode of the other end on this machine, 0: none or not known."""

    protocol: str
    text: str
    """Its addresses."""
    state: str
    receive_queue: int
    send_queue: int
    """Bytes that wait to be read, and to be acknowledged."""
    peer: int

    @property
    def details(self) -> str:
        """State, and queues where something waits."""
        words = [self.state] if self.state else []
        if self.state == "listen":
            return "listen"
        if self.receive_queue:
            words.append(f"{self.receive_queue:,} bytes to read")
        if self.send_queue:
            words.append(f"{self.send_queue:,} bytes not acknowledged")
        return ", ".join(words)


def sockets_of(pid: int) -> dict[int, Socket]:
    """The sockets that a process's network namespace has. What cannot be read is left out.

    Raises InsituError if this process has too many files open itself.
    """
    found: dict[int, Socket] = {}
    ends: dict[tuple[str, str], int] = {}
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for words in _rows(pid, table):
            with contextlib.suppress(ValueError, IndexError):
                local, remote = _address(words[1]), _address(words[2])
                send, receive = (int(part, 16) for part in words[4].split(":"))
                is_tcp = table.startswith("tcp")
                state = _STATES[int(words[3], 16)] if is_tcp else ""
                peer = "" if remote.endswith((":0", ":*")) else f" -> {remote}"
                inode = int(words[9])
                found[inode] = Socket(table.upper().replace("6", "v6"), f"{local}{peer}", state, receive, send, 0)
                if peer and is_tcp:
                    ends[local, remote] = inode
    for (local, remote), inode in ends.items():
        if other := ends.get((remote, local)):
            found[inode] = found[inode]._replace(peer=other)
    found |= _unix(pid)
    for words in _rows(pid, "netlink"):
        with contextlib.suppress(ValueError, IndexError):
            found[int(words[9])] = Socket("netlink", f"protocol {words[1]}, port {words[2]}", "", int(words[4]), 0, 0)
    for words in _rows(pid, "packet"):
        with contextlib.suppress(ValueError, IndexError):
            found[int(words[8])] = Socket("packet", f"protocol {words[3]}, interface {words[4]}", "", 0, 0, 0)
    return found


def _rows(pid: int, table: str) -> Iterator[list[str]]:
    try:
        with open(f"/proc/{pid}/net/{table}", "rb") as file:  # noqa: PTH123
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.split("\n")[1:]:
        if line:
            yield line.split(None, 10)


def _address(text: str) -> str:
    """ "0100007F:0050" as 127.0.0.1:80: the address is in words of this machine's byte order."""
    words, _, port = text.partition(":")
    data = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(data)
    mapped = getattr(address, "ipv4_mapped", None)
    shown = str(mapped or address)
    return f"[{shown}]:{int(port, 16)}" if ":" in shown else f"{shown}:{int(port, 16)}"


def _unix(pid: int) -> dict[int, Socket]:
    found: dict[int, Socket] = {}
    peers = _unix_peers() if _in_our_namespace(pid) else {}
    for words in _rows(pid, "unix"):
        with contextlib.suppress(ValueError, IndexError):
            flags, kind, state, inode = int(words[3], 16), int(words[4], 16), int(words[5], 16), int(words[6])
            name = " ".join(words[7:]) if len(words) > 7 else ""
            shown = "listen" if flags & _LISTENS else _UNIX_STATES.get(state, "")
            found[inode] = Socket(f"UNIX {_UNIX_TYPES.get(kind, '')}".strip(), name, shown, 0, 0, peers.get(inode, 0))
    return found


def _in_our_namespace(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")  # noqa: PTH115
    return False


def _unix_peers() -> Mapping[int, int]:
    """The peer of each connected UNIX socket of our network namespace, by inode (sock_diag(7))."""
    from pyroute2 import DiagSocket
    from pyroute2.netlink.diag import UDIAG_SHOW_PEER

    def ask() -> dict[int, int]:
        found = {}
        with contextlib.suppress(OSError), DiagSocket() as diag:
            for each in diag.get_sock_stats(family=1, show=UDIAG_SHOW_PEER):
                if peer := each.get_attr("UNIX_DIAG_PEER"):
                    found[int(each["udiag_ino"])] = int(peer)
        return found

    refuse_few_descriptors(EVENT_LOOP_FILES)
    # pyroute2 runs the event loop of the thread: the caller's own, such as a notebook's, must not be in its way.
    with ThreadPoolExecutor(max_workers=1) as other:
        return other.submit(ask).result()
