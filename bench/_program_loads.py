"""What sets ready programs off, in a lab guest: each function makes so many events, and returns their number."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["LOADS", "set_up"]

_RAW, _XFS = "/dev/vda", "/dev/vdb"
_FILES = "/mnt/xfs"
_MIB = 1 << 20


def set_up() -> None:
    """A loopback device, a file system on the second disk, memory cgroups, and modules."""
    for module in ("xfs", "sch_netem"):
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mkfs.xfs", "-q", _XFS], check=True)
    Path(_FILES).mkdir(parents=True)
    subprocess.run(["mount", _XFS, _FILES], check=True)
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")


def _opens() -> int:
    for _ in range(2000):
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    return 2000


def _lookups() -> int:
    """Of names that are in the directory cache, and of as many that no file system has."""
    for number in range(500):
        os.stat("/etc/hostname")  # noqa: PTH116
        with contextlib.suppress(FileNotFoundError):
            os.stat(f"{_FILES}/none-{number}")  # noqa: PTH116
    return 1000


def _files() -> int:
    descriptor = os.open(f"{_FILES}/file", os.O_RDWR | os.O_CREAT)
    for place in range(500):
        os.pwrite(descriptor, bytes(1000), place * 1000)
        os.pread(descriptor, 1000, place * 1000)
    os.close(descriptor)
    return 1000


def _writebacks() -> int:
    for _ in range(20):
        Path(_FILES, "dirty").write_bytes(bytes(64 << 12))
        os.sync()
    return 20


def _requests() -> int:
    subprocess.run(
        ["dd", f"if={_RAW}", "of=/dev/null", "bs=4k", "count=500", "iflag=direct", "status=none"], check=True
    )
    return 500


def _execs() -> int:
    for _ in range(30):
        subprocess.run(["/bin/true", "one", "two", "three"], check=True)
    return 30


def _threads() -> int:
    for _ in range(200):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return 200


def _signals() -> int:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    for _ in range(500):
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    return 500


def _capabilities() -> int:
    """Each name that is set is checked once: ns_capable() of sethostname(2)."""
    name = socket.gethostname()
    for _ in range(500):
        socket.sethostname(name)
    return 500


def _system_calls() -> int:
    for _ in range(5000):
        os.getppid()
    return 5000


def _names() -> int:
    for _ in range(200):
        socket.getaddrinfo("127.0.0.1", 80)
    return 200


def _switches() -> int:
    """Two processes that wake each other on one CPU."""
    here, there = socket.socketpair()
    child = os.fork()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    if child == 0:
        here.close()
        while there.recv(1):
            there.send(b"x")
        os._exit(0)
    there.close()
    for _ in range(2000):
        here.send(b"x")
        here.recv(1)
    here.close()
    os.waitpid(child, 0)
    os.sched_setaffinity(0, allowed)
    return 4000


def _ticks() -> int:
    """Seconds in which both CPUs are busy; events are the samples of a CPU each 10 ms or so."""
    end = time.monotonic() + 3
    child = os.fork()
    while time.monotonic() < end:
        pass
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return 3 * 99 * 2


def _connections() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(200):
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass
    return 200


def _lost_packets() -> int:
    """40 connections send a packet each into a network that loses all of them for 2 s: dropped, and sent again."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, contextlib.ExitStack() as kept:
        clients = []
        for _ in range(40):
            clients.append(kept.enter_context(socket.create_connection(listener.getsockname())))
            kept.enter_context(listener.accept()[0])
        before = _retransmitted()
        netem = ("dev", "lo", "root", "netem")
        subprocess.run(["tc", "qdisc", "add", *netem, "loss", "100%"], check=True)
        for client in clients:
            client.sendall(b"lost")
        time.sleep(2)
        subprocess.run(["tc", "qdisc", "change", *netem, "loss", "0%"], check=True)
        time.sleep(2)
        subprocess.run(["tc", "qdisc", "del", *netem], check=True)
        return _retransmitted() - before


def _retransmitted() -> int:
    """Of this network namespace, as the kernel counts."""
    names, numbers = (
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(numbers[names.index("RetransSegs")])


def _kills() -> int:
    """Processes that each take twice what their cgroup may have."""
    group = Path("/sys/fs/cgroup/bench-oom")
    group.mkdir()
    (group / "memory.max").write_text(str(24 * _MIB))
    for _ in range(5):
        child = os.fork()
        if child == 0:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            bytearray(48 * _MIB)
            os._exit(0)
        os.waitpid(child, 0)
    group.rmdir()
    return 5


LOADS: dict[str, Callable[[], int]] = {
    "open": _opens,
    "name looked up": _lookups,
    "read or write": _files,
    "pass of a flusher": _writebacks,
    "request": _requests,
    "exec": _execs,
    "thread": _threads,
    "signal": _signals,
    "check": _capabilities,
    "system call": _system_calls,
    "host name": _names,
    "switch": _switches,
    "sample": _ticks,
    "connection": _connections,
    "packet sent again": _lost_packets,
    "kill": _kills,
}
"""Each by what an event of it is called."""
