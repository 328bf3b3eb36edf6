"""Delay accounting of tasks (Documentation/accounting/delay-accounting.rst), by generic netlink.

A process is asked for; of threads that end the kernel gives notice (Documentation/accounting/taskstats.rst).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from typing import Any, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.limits import EVENT_LOOP_FILES, refuse_few_descriptors

__all__ = ["KINDS", "Delays", "EndNotices", "Ended", "TaskStats", "offsets"]

# What a task is delayed by, as struct taskstats (include/uapi/linux/taskstats.h) names it.
KINDS = ("cpu", "blkio", "swapin", "freepages", "thrashing", "compact", "wpcopy", "irq")
# Version 15 alone has two fields more in each of them; later ones have these at the end.
_WIDE_VERSION = 15
_OLDEST = 8  # the first with "freepages"; those newer than a version has are 0
_LEAST_BYTES = 328  # of version 8
_GET = 1  # TASKSTATS_CMD_GET
_REGISTER_CPUMASK = 3  # TASKSTATS_CMD_ATTR_REGISTER_CPUMASK
_PID, _STATS, _AGGR_PID = 1, 3, 4  # TASKSTATS_TYPE_PID, _STATS, _AGGR_PID
_NAME_BYTES = 32  # of ac_comm

_NETLINK_GENERIC = 16
_SO_RCVBUFFORCE = 33
_NLMSG_ERROR = 2
_REQUEST_ACKED = 1 | 4  # NLM_F_REQUEST, NLM_F_ACK
_HEADERS_BYTES = 16 + 4  # struct nlmsghdr and struct genlmsghdr
_NOTICES_BYTES = 16 << 20  # of notices that wait to be read: some 10,000
_LARGEST_BYTES = 1 << 16


class Delays(NamedTuple):
    """What has delayed a process, its threads summed, those that have ended included.

    ``run_ns`` is its time on a CPU. ``delay_ns`` and ``times`` are by KINDS; those that the kernel does not know are
    left out.
    """

    run_ns: int
    delay_ns: dict[str, int]
    times: dict[str, int]

    def with_(self, other: Delays) -> Delays:
        """Both together; ``other`` may be empty."""
        return Delays(
            self.run_ns + other.run_ns,
            {kind: ns + other.delay_ns.get(kind, 0) for kind, ns in self.delay_ns.items()},
            {kind: n + other.times.get(kind, 0) for kind, n in self.times.items()},
        )

    def since(self, before: Delays) -> Delays:
        """What has been added since."""
        return Delays(
            self.run_ns - before.run_ns,
            {kind: ns - before.delay_ns.get(kind, 0) for kind, ns in self.delay_ns.items()},
            {kind: n - before.times.get(kind, 0) for kind, n in self.times.items()},
        )


@cache
def offsets(version: int) -> dict[str, int]:
    """Where struct taskstats has what delays tasks, in bytes: a count, and then the nanoseconds, of each of KINDS."""
    wide = 4 if version == _WIDE_VERSION else 2
    # Its members, or several of them, and how many times 8 bytes they take.
    members = [("version to ac_nice", 2), ("cpu", wide), ("blkio", wide), ("swapin", wide)]
    members += [("cpu_run_real_total", 1), ("cpu_run_virtual_total", 1), ("ac_comm to ac_btime", 8)]
    members += [("ac_etime to cpu_scaled_run_real_total", 21), ("freepages", wide), ("thrashing", wide)]
    members += [("ac_btime64", 1), ("compact", wide), ("ac_tgid to ac_exe_inode", 4), ("wpcopy", wide), ("irq", wide)]
    found, at = {}, 0
    for name, words in members:
        found[name] = at
        at += 8 * words
    return found


def _decoded(data: bytes) -> Delays:
    """What the kernel has sent. Raises InsituError for a structure that is too short."""
    version = struct.unpack_from("=H", data)[0] if len(data) >= _LEAST_BYTES else 0
    if version < _OLDEST:
        raise InsituError(f"this kernel's taskstats are of version {version}", remedy="Linux 2.6.31 or newer")
    at = offsets(version)
    known = [kind for kind in KINDS if at[kind] + 16 <= len(data)]
    words = {kind: struct.unpack_from("=QQ", data, at[kind]) for kind in known}
    return Delays(
        struct.unpack_from("=Q", data, at["cpu_run_virtual_total"])[0],
        {kind: words[kind][1] for kind in known},
        {kind: words[kind][0] for kind in known},
    )


class Ended(NamedTuple):
    """What the kernel has accounted for a thread that has ended."""

    tid: int
    name: str
    delays: Delays


class TaskStats:
    """A netlink socket that asks for processes. Close it after use."""

    def __init__(self) -> None:
        """Raises InsituError where the kernel has no taskstats, this user may not ask, or too many files are open."""
        from pyroute2.netlink import genlmsg, nla
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.generic import GenericNetlinkSocket
        from pyroute2.netlink.taskstats import tcmd

        class Group(nla):  # type: ignore[misc]
            """TASKSTATS_TYPE_AGGR_PID and _TGID. pyroute2 could only decode version 15 of the structure."""

            nla_map = (("unspecified", "none"), ("pid", "uint32"), ("tgid", "uint32"), ("stats", "cdata"))

        class Reply(genlmsg):  # type: ignore[misc]
            """TASKSTATS_CMD_NEW."""

            nla_map = (*Group.nla_map, ("of_pid", "Group"), ("of_tgid", "Group"))

        Reply.Group = Group
        # Else only what the scheduler itself counts is there, and the rest is 0.
        self.accounts_all = procfs.sysctl("kernel.task_delayacct") != "0"
        self._new_message = tcmd
        self._error = NetlinkError
        refuse_few_descriptors(EVENT_LOOP_FILES)
        # pyroute2 runs the event loop of its thread: the caller's own, such as a notebook's, must not be in its way.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._socket = self._thread.submit(GenericNetlinkSocket).result()
        try:
            self._thread.submit(self._socket.bind, "TASKSTATS", Reply).result()
        except NetlinkError:
            self.close()
            remedy = "a kernel with CONFIG_TASKSTATS and CONFIG_TASK_DELAY_ACCT"
            raise InsituError("this kernel has no taskstats", remedy=remedy) from None

    def process(self, pid: int) -> Delays:
        """What has delayed a process until now; also of one that has ended and is not reaped.

        Raises ProcessLookupError, PermissionError.
        """
        found = self._asked("tgid", pid)
        if not found.run_ns:  # it has ended, and never had a second thread: it is in no sum
            found = self._asked("pid", pid)
        return self._accounted(found)

    def _accounted(self, found: Delays) -> Delays:
        """Without what the kernel does not account, which is 0."""
        if self.accounts_all:
            return found
        return Delays(found.run_ns, {"cpu": found.delay_ns["cpu"]}, {"cpu": found.times["cpu"]})

    def _asked(self, what: str, number: int) -> Delays:
        from pyroute2.netlink import NLM_F_REQUEST

        message = self._new_message()
        message["cmd"], message["version"] = _GET, 1
        message["attrs"].append([f"TASKSTATS_CMD_ATTR_{what.upper()}", number])
        try:
            request = partial(self._socket.nlm_request, message, self._socket.prid, msg_flags=NLM_F_REQUEST)
            replies: Any = self._thread.submit(lambda: list(request())).result()
        except self._error as error:
            raise OSError(error.code, os.strerror(error.code), f"taskstats of process {number}") from None
        return _decoded(replies[0].get_attr(f"of_{what}").get_attr("stats"))

    def end_notices(self) -> EndNotices:
        """Listen to the end of all threads of the machine from now on. Raises OSError."""
        return EndNotices(self._socket.prid, self._accounted)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        with suppress(RuntimeError):  # it is closed
            self._thread.submit(self._socket.close).result()
        self._thread.shutdown()


class EndNotices:
    """Reports each thread that ends. Close it after use."""

    def __init__(self, family: int, accounted: Callable[[Delays], Delays]) -> None:
        """``family`` is the number of TASKSTATS. Raises OSError where the kernel refuses."""
        self.overruns = 0
        """How often notices were lost, since too many waited to be read."""
        self._accounted = accounted
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_GENERIC)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _NOTICES_BYTES)
            self._socket.bind((0, 0))
            cpus = f"{procfs.text('/sys/devices/system/cpu/possible') or 0}\0".encode()
            attribute = struct.pack("=HH", 4 + len(cpus), _REGISTER_CPUMASK) + cpus
            body = struct.pack("=BBH", _GET, 1, 0) + attribute + bytes(-len(attribute) % 4)
            self._socket.send(struct.pack("=IHHII", 16 + len(body), family, _REQUEST_ACKED, 1, 0) + body)
            self._acknowledged()
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _acknowledged(self) -> None:
        """Wait for the kernel's acknowledgement; a notice may come first, of a thread of nobody's."""
        while True:
            reply = self._socket.recv(_LARGEST_BYTES)
            _, kind = struct.unpack_from("=IH", reply)
            if kind == _NLMSG_ERROR:
                (error,) = struct.unpack_from("=i", reply, 16)
                if error:
                    raise OSError(-error, os.strerror(-error), "taskstats of threads that end")
                return

    def fileno(self) -> int:
        """Becomes readable when a thread has ended."""
        return self._socket.fileno()

    def read(self) -> Iterator[Ended]:
        """The threads that have ended since, in this order."""
        while True:
            try:
                message = self._socket.recv(_LARGEST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            aggregate = _attributes(message[_HEADERS_BYTES:]).get(_AGGR_PID)
            if aggregate is not None:
                parts = _attributes(aggregate)
                yield self._ended(int.from_bytes(parts[_PID], sys.byteorder), parts[_STATS])

    def _ended(self, tid: int, data: bytes) -> Ended:
        delays = self._accounted(_decoded(data))
        at = offsets(struct.unpack_from("=H", data)[0])["ac_comm to ac_btime"]
        name = data[at : at + _NAME_BYTES].partition(b"\0")[0]
        return Ended(tid, name.decode(errors="replace"), delays)

    def close(self) -> None:
        """Close the socket: the kernel forgets the listener at its next notice. Idempotent."""
        self._socket.close()


def _attributes(data: bytes) -> dict[int, bytes]:
    """What the attributes of a message, or of an attribute, hold: struct nlattr of include/uapi/linux/netlink.h."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + -length % 4
    return found
