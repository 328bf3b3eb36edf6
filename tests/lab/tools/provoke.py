"""Runs inside a guest: makes the event that one of bpftrace's tools shows, and notes what the tool has to say of it.

``provoke.py EVENT COMM FACTS``: under the name COMM. FACTS becomes a JSON object of what this program knows from
having done it: pids, names, ports, sizes, errors. What is set up once for all events is setup()'s.
"""

import ctypes
import errno
import functools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, object]

_BLOCK_DEVICE = "/dev/vda"
_XFS = "/mnt/xfs"
_SWAP_DEVICE = "/dev/vdb"
_MIB = 1 << 20
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
# System calls that libc no longer makes, by their numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
_STAT, _LSTAT, _NANOSLEEP, _GETPPID, _SETFSUID, _SYNC_FILE_RANGE = 4, 6, 35, 110, 122, 277


def setup() -> Facts:
    """File systems on the guest's disks, modules, a certificate."""
    for module in ("xfs", "raid1", "loop", "sch_netem"):
        _run("modprobe", module)
    _run("ip", "link", "set", "lo", "up")
    _run("mkfs.xfs", "-q", "-f", _BLOCK_DEVICE)
    Path(_XFS).mkdir(parents=True)
    _run("mount", _BLOCK_DEVICE, _XFS)
    _run("mkswap", "-q", _SWAP_DEVICE)
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /run/key.pem"
    _run("openssl", "req", "-x509", *key.split(), "-subj", "/CN=insitu", "-out", "/run/certificate.pem")
    return {}


def bashreadline() -> Facts:
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "--norc", "-i"], {"PS1": "ready>", "TERM": "dumb", "HISTFILE": ""})
    _read_until(terminal, b"ready>")
    os.write(terminal, b"echo typed in $((20+3))\n")
    _read_until(terminal, b"typed in 23")
    os.write(terminal, b"exit\n")
    os.waitpid(pid, 0)
    return {"child": pid, "command": "echo typed in $((20+3))"}


def block_read() -> Facts:
    """Two direct reads, of 8 and of 128 KiB."""
    import mmap

    descriptor = os.open(_BLOCK_DEVICE, os.O_RDONLY | os.O_DIRECT)
    for size, offset in ((8 << 10, 0), (128 << 10, _MIB)):
        with mmap.mmap(-1, size) as buffer:
            assert os.preadv(descriptor, [buffer], offset) == size
    os.close(descriptor)
    return {"disk": _BLOCK_DEVICE.removeprefix("/dev/")}


def capable() -> Facts:
    path = Path("/run/owned")
    path.touch()
    os.chown(path, 1000, 1000)
    return {"uid": os.getuid()}


def cpuwalk() -> Facts:
    os.sched_setaffinity(0, {1})
    _spin(0.4)
    return {"cpu": 1}


def dcsnoop() -> Facts:
    Path("/run/made-only-here").mkdir()
    Path("/run/made-only-here").stat()
    return {"missed": "made-only-here", "found": "made-only-here"}


def execsnoop() -> Facts:
    return {"child": subprocess.Popen(["/bin/echo", "one", "two words"]).pid}


def gethostlatency() -> Facts:
    socket.getaddrinfo("localhost", 80)
    return {"host": "localhost"}


def killsnoop() -> Facts:
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        os.kill(child, signal.SIGUSR1)
    except ProcessLookupError as error:
        return {"child": child, "error": -(error.errno or 0)}
    raise AssertionError("the child is reaped")


def loads() -> Facts:
    """The kernel's averages before, while and after the tool printed a line; earlier lines may have older ones."""
    seen = set()

    def lines() -> int:
        seen.add(tuple(Path("/proc/loadavg").read_text().split()[:3]))
        return len(re.findall(r"load averages: .*\n", _printed()))

    earlier = lines()
    _wait_for(lambda: lines() > earlier)
    lines()
    return {"loads": sorted(seen)}


def mdflush() -> Facts:
    """A mirror of one disk without a superblock, by the ioctls of include/uapi/linux/raid/md_u.h."""
    import fcntl

    set_array_info, add_new_disk, run_array, stop_array = 0x40480923, 0x40140921, 0x400C0930, 0x932
    image = "/dev/shm/mirrored"
    with Path(image).open("wb") as file:
        file.truncate(16 * _MIB)
    loop = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, check=True, text=True)
    status = Path(loop.stdout.strip()).stat()
    Path("/sys/module/md_mod/parameters/new_array").write_text("md7")
    _wait_for(lambda: Path("/dev/md7").exists())
    array = os.open("/dev/md7", os.O_RDWR)
    # mdu_array_info_t: major, minor, patch version, ctime, level, size, nr, raid disks, md minor, not persistent ...
    information = [0, 90, 0, 0, 1, 8192, 1, 1, 7, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    fcntl.ioctl(array, set_array_info, struct.pack("18i", *information))
    # mdu_disk_info_t: number, major, minor, place, state: active and in sync.
    fcntl.ioctl(array, add_new_disk, struct.pack("5i", 0, os.major(status.st_rdev), os.minor(status.st_rdev), 0, 6))
    fcntl.ioctl(array, run_array, struct.pack("3i", 0, 0, 0))
    os.pwrite(array, b"x" * 4096, 0)
    os.fsync(array)
    fcntl.ioctl(array, stop_array)
    os.close(array)
    return {"device": "md7"}


def naptime() -> Facts:
    class Duration(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("ns", ctypes.c_long))

    _libc.syscall(_NANOSLEEP, ctypes.byref(Duration(0, 37_000_000)), None)
    return {"seconds": "0.037", "parent": os.getppid(), "parent_comm": _comm(os.getppid())}


def oomkill() -> Facts:
    """A child that takes twice what its group may have."""
    group = _memory_group("oom", 24 * _MIB)
    child = os.fork()
    if child == 0:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        bytearray(48 * _MIB)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return {"child": child, "pages": 24 * _MIB // 4096}


def opensnoop() -> Facts:
    path = Path("/run/opened-only-here")
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.open("/run/there-is-none", os.O_RDONLY)
    except FileNotFoundError as error:
        return {"path": str(path), "fd": descriptor, "missing": "/run/there-is-none", "error": error.errno}
    raise AssertionError


def pidpersec() -> Facts:
    def fork() -> None:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    _until_printed(fork, {"@": 30})
    return {"forks": 30}


def runqlat() -> Facts:
    """Two that want one CPU: each has waited whenever it got it."""
    os.sched_setaffinity(0, {0})
    child = os.fork()
    _spin(0.5)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return {"switches": _switches()}


def runqlen() -> Facts:
    """Three that want one CPU."""
    os.sched_setaffinity(0, {0})
    children = [os.fork()]
    children += [os.fork()] if children[0] else []
    _spin(0.5)
    if 0 in children:
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return {"waiting": 2}


def setuids() -> Facts:
    child = os.fork()
    if child == 0:
        _libc.syscall(_SETFSUID, 1234)
        os.setresuid(0, 0, 5678)
        os.setuid(4321)
        os._exit(0)
    os.waitpid(child, 0)
    return {"child": child}


def ssl() -> Facts:
    """One conversation between openssl's own server and client, a line each way."""
    port = _unused_port()
    server = subprocess.Popen(
        f"openssl s_server -accept {port} -key /run/key.pem -cert /run/certificate.pem -naccept 1 -quiet".split(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None and server.stdout is not None
    _wait_for(lambda: _listens(port))
    client = subprocess.Popen(
        f"openssl s_client -connect 127.0.0.1:{port} -quiet -no_ign_eof".split(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"from the client\n")
    client.stdin.flush()
    assert server.stdout.readline() == b"from the client\n"
    server.stdin.write(b"server's\n")
    server.stdin.flush()
    assert client.stdout.readline() == b"server's\n"
    client.stdin.close()  # it says good-bye, and the server ends with its only connection
    client.wait()
    server.wait()
    return {"client": client.pid, "server": server.pid, "sent": 16, "answered": 9}


def statsnoop() -> Facts:
    buffer = ctypes.create_string_buffer(512)
    assert _libc.syscall(_STAT, b"/run", buffer) == 0
    assert _libc.syscall(_LSTAT, b"/run/stat-of-none", buffer) == -1
    assert ctypes.get_errno() == errno.ENOENT
    os.statvfs("/dev/shm")
    return {"error": errno.ENOENT}


def swapin() -> Facts:
    """A child whose group has room for a part of what it touches twice."""
    _run("swapon", _SWAP_DEVICE)
    before = _swapped_in()
    group = _memory_group("swap", 24 * _MIB)
    child = os.fork()
    if child == 0:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        touched = bytearray(40 * _MIB)
        for _ in range(2):
            for page in range(0, len(touched), 4096):
                touched[page] = (touched[page] + page) % 251
        os._exit(0)
    os.waitpid(child, 0)
    pages = _swapped_in() - before
    _wait_for(lambda: f", {child}]: " in _printed())
    _run("swapoff", _SWAP_DEVICE)
    return {"child": child, "pages": pages}


def syncsnoop() -> Facts:
    import mmap

    descriptor = os.open("/run/synced", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, 4096)
    os.fsync(descriptor)
    os.fdatasync(descriptor)
    with mmap.mmap(descriptor, 4096) as mapped:
        mapped.flush()
    _libc.syscall(_SYNC_FILE_RANGE, descriptor, 0, 4096, 0)
    _libc.syncfs(descriptor)
    os.sync()
    return {}


def syscount() -> Facts:
    for _ in range(20_000):
        _libc.syscall(_GETPPID)
    return {"number": _GETPPID, "calls": 20_000}


def converse(client: socket.socket, server: socket.socket) -> None:
    """Send 100 KiB from the client and 20 KiB back, and close both, the server last."""
    for sender, receiver, kib in ((client, server, 100), (server, client, 20)):
        sender.sendall(bytes(kib << 10))
        left = kib << 10
        while left:
            left -= len(receiver.recv(left))
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.close()
    assert client.recv(1) == b""
    client.close()


def own_network() -> None:
    """Give this process a network of its own, which has a loopback device alone."""
    assert _libc.unshare(_CLONE_NEWNET) == 0
    _run("ip", "link", "set", "lo", "up")


def connected_in_own_network() -> tuple[int, int, socket.socket, socket.socket]:
    """A connection over a network of this process's own: the server's port, the client's, the client, the server."""
    own_network()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    server, (_, client_port) = listener.accept()
    return port, client_port, client, server


def tcp() -> Facts:
    """One connection, 100 KiB from the client, 20 KiB back, the server closing last."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=7)
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    server, (_, client_port) = listener.accept()
    converse(client, server)
    return {"port": port, "client_port": client_port, "backlog": 7, "sent_kib": 100, "received_kib": 20}


def tcp_lost() -> Facts:
    """What a client sends over a network (its own) that loses everything: dropped, and sent again."""
    port, client_port, client, accepted = connected_in_own_network()
    with accepted, client:
        _run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "100%")
        client.sendall(b"lost")
        _wait_for(lambda: _timeouts() > 1)
    return {"port": port, "client_port": client_port}


def threadsnoop() -> Facts:
    import threading

    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return {}


def undump() -> Facts:
    first, second = socket.socketpair()
    first.sendall(b"over a socket")
    assert second.recv(64) == b"over a socket"
    return {"bytes": 13, "data": "over a socket"}


def vfs() -> Facts:
    """Reads and writes."""
    descriptor = os.open("/run/written", os.O_RDWR | os.O_CREAT)
    for _ in range(400):
        os.pwrite(descriptor, b"x", 0)
    for _ in range(300):
        os.pread(descriptor, 1, 0)
    os.close(descriptor)
    return {"writes": 400, "reads": 300}


def vfs_each_second() -> Facts:
    """The same for a tool that prints once a second."""
    _until_printed(vfs, {"@[vfs_write]": 400, "@[vfs_read]": 300})
    return {"writes": 400, "reads": 300}


def writeback() -> Facts:
    path = Path(_XFS, "dirty")
    path.write_bytes(bytes(_MIB))
    os.sync()
    number = path.stat().st_dev
    return {"device": f"{os.major(number)}:{os.minor(number)}"}


def xfsdist() -> Facts:
    path = str(Path(_XFS, "file"))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(5):
        os.pwrite(descriptor, bytes(4096), 0)
    for _ in range(3):
        os.pread(descriptor, 4096, 0)
    os.fsync(descriptor)
    os.close(descriptor)
    return {"writes": 5, "reads": 3, "fsyncs": 1}


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def _spin(seconds: float) -> None:
    """Use that much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _switches() -> int:
    """How often this process has lost its CPU to another."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^nonvoluntary_ctxt_switches:\s*(\d+)$", status, re.MULTILINE)
    assert match
    return int(match[1])


def _swapped_in() -> int:
    """Pages read from swap since the kernel started."""
    return int(Path("/proc/vmstat").read_text().partition("\npswpin ")[2].split()[0])


def _memory_group(name: str, limit: int) -> Path:
    """A control group of that much memory, without swap counted against it."""
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
    group = Path("/sys/fs/cgroup", name)
    group.mkdir(exist_ok=True)
    (group / "memory.max").write_text(str(limit))
    return group


def _timeouts() -> int:
    """How often the kernel's retransmission timer has run out in this network namespace.

    It counts before it sends again. A tail loss probe, which may come first, is none of what tools show.
    """
    text = Path("/proc/self/net/netstat").read_text()
    names, numbers = (line.split() for line in text.splitlines() if line.startswith("TcpExt:"))
    return int(numbers[names.index("TCPTimeouts")])


def _printed() -> str:
    """What the tool has printed so far."""
    return Path(sys.argv[3]).with_name("stdout").read_text(errors="replace")


def _longer_than(length: int) -> bool:
    return len(_printed()) > length


def _until_printed(act: Callable[[], object], least: dict[str, int]) -> None:
    """Act until the tool, which prints and clears its counts each second, has printed so much of each of them.

    What comes between its printing and its clearing is lost to it.
    """

    def enough() -> bool:
        text = _printed()
        totals = {
            name: sum(map(int, re.findall(rf"{re.escape(name)}: (\d+)$", text, re.MULTILINE))) for name in least
        }
        return all(totals[name] >= count for name, count in least.items())

    while not enough():
        act()
        length = len(_printed())
        _wait_for(functools.partial(_longer_than, length))


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    """Whether somebody listens there, as the kernel lists it: to connect would take the server's only connection."""
    sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    return re.search(rf":{port:04X} 0+:0000 0A", sockets) is not None


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _read_until(descriptor: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(descriptor, 4096)


def main_of(events: dict[str, Any]) -> None:
    """Make the event that the command line names."""
    name, comm, facts_file = sys.argv[1:]
    event: Callable[[], Facts] = events[name]
    Path("/proc/self/comm").write_text(comm)
    facts = {"pid": os.getpid(), "comm": comm, **event()}
    Path(facts_file).write_text(json.dumps(facts))


if __name__ == "__main__":
    main_of(globals())
