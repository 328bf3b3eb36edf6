"""Runs inside a guest: makes what one of our programs on files, disks, the network or KVM shows, with a known count.

``provoke_io.py EVENT COMM FACTS``, as provoke.py, whose small tools it uses. What FACTS has was counted by this
program or by the kernel (/proc/diskstats, /proc/net/snmp, tc), never by a tracer.
"""

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from provoke import (
    Facts,
    _comm,
    _libc,
    _run,
    _wait_for,
    connected_in_own_network,
    converse,
    gethostlatency,
    main_of,
    own_network,
)

__all__ = ["gethostlatency"]

_DISK = "vdc"
_EXT4 = "/mnt/ext4"
_XFS = "/mnt/xfs"
_PAGE = 4096


def setup() -> Facts:
    """File systems on two disks, a scheduler for the third, modules."""
    for module in ("ext4", "xfs", "sch_netem", "mq-deadline", "kvm_amd"):
        _run("modprobe", module)
    _run("ip", "link", "set", "lo", "up")
    for kind, disk, directory in (("ext4", "/dev/vda", _EXT4), ("xfs", "/dev/vdb", _XFS)):
        _run(f"mkfs.{kind}", "-q", disk)
        Path(directory).mkdir(parents=True)
        _run("mount", disk, directory)
    Path(f"/sys/block/{_DISK}/queue/scheduler").write_text("mq-deadline")
    return {}


def block() -> Facts:
    """Direct reads of 8 KiB, ten in a row and ten apart, then five direct writes of 16 KiB, and what /proc counts."""
    before = _diskstats()
    descriptor = os.open(f"/dev/{_DISK}", os.O_RDWR | os.O_DIRECT)
    reads = [(1 << 20) + 8192 * i for i in range(10)] + [(4 << 20) + (i << 18) for i in range(10)]
    writes = [(16 << 20) + (i << 19) for i in range(5)]
    began = time.monotonic_ns()
    with mmap.mmap(-1, 8192) as buffer:
        for offset in reads:
            assert os.preadv(descriptor, [buffer], offset) == 8192
    read_ns = time.monotonic_ns() - began
    with mmap.mmap(-1, 16384) as buffer:
        for offset in writes:
            assert os.pwritev(descriptor, [buffer], offset) == 16384
    os.close(descriptor)
    after = _diskstats()
    return {
        "reads": [offset // 512 for offset in reads],
        "writes": [offset // 512 for offset in writes],
        "counted": [new - old for new, old in zip(after, before, strict=True)],
        "read_us": read_ns / 1000,
    }


def _diskstats() -> list[int]:
    """Reads, sectors read, writes and sectors written of the disk (Documentation/admin-guide/iostats.rst)."""
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[2] == _DISK:
            return [int(fields[i]) for i in (3, 5, 7, 9)]
    raise AssertionError(f"no {_DISK}")


def _printed_bytes() -> int:
    """Size of the tool's output, which is not read: some tools would show that."""
    return Path(sys.argv[3]).with_name("stdout").stat().st_size


def _next_line() -> int:
    """Wait until the tool, which prints a line each second, has printed another: the output's size then."""
    before = _printed_bytes()
    _wait_for(lambda: _printed_bytes() > before)
    return _printed_bytes()


def page_cache() -> Facts:
    """200 pages written, dropped from memory, read, and read again: shown after that much of the tool's output."""
    _next_line()
    after = _next_line()
    descriptor = os.open(f"{_EXT4}/cached", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(200 * _PAGE))
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for _ in range(2):
        for page in range(0, 200, 8):
            assert len(os.pread(descriptor, 8 * _PAGE, page * _PAGE)) == 8 * _PAGE
    os.close(descriptor)
    return {"after": after, "pages": 200}


def directory_cache() -> Facts:
    """40 names that do not exist, each looked up twice: first by the file system, then the cache knows of none."""
    for name_of_thread in ("dcprobe", "dcagain"):
        with _named(name_of_thread):
            for name in range(40):
                assert not Path(_EXT4, f"none-{name}").exists()
    return {"misses": 40, "lookups": 80}


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """A name of its own for this thread, so that what it does meanwhile can be told apart."""
    before = _comm(os.getpid())
    Path("/proc/self/comm").write_text(name)
    yield
    Path("/proc/self/comm").write_text(before)


def file_io() -> Facts:
    """Of a file on XFS: 30 writes of 1000 bytes, 10 reads of 2000, one fsync."""
    path = f"{_XFS}/file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(30):
        os.write(descriptor, bytes(1000))
    began = time.monotonic_ns()
    os.fsync(descriptor)
    fsync_us = (time.monotonic_ns() - began) / 1000
    for i in range(10):
        assert len(os.pread(descriptor, 2000, 2000 * i)) == 2000
    os.close(descriptor)
    return {"path": path, "fsync_us": fsync_us}


def ext4_writes() -> Facts:
    """20 writes of a page and a half each to a new file on ext4, each of which touches two pages."""
    descriptor = os.open(f"{_EXT4}/paged", os.O_WRONLY | os.O_CREAT)
    for i in range(20):
        os.pwrite(descriptor, bytes(_PAGE + _PAGE // 2), 2 * i * _PAGE)
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev)}, {os.minor(status.st_dev)}, {status.st_ino}"
    os.close(descriptor)
    return {"file": file, "pages": 40, "bytes": 20 * (_PAGE + _PAGE // 2)}


def opens() -> Facts:
    path = "/run/opened-by-provoke"
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT)
    assert _libc.syscall(2, b"/run/there-is-none-of-it", 0) == -1  # open(), which libc no longer makes
    return {"path": path, "fd": descriptor, "missing": "/run/there-is-none-of-it"}


def writeback() -> Facts:
    path = Path(_EXT4, "dirty")
    path.write_bytes(bytes(256 * _PAGE))
    os.sync()
    number = path.stat().st_dev
    return {"device": f"{os.major(number)}:{os.minor(number)}", "pages": 256}


def tcp() -> Facts:
    """A connection of 100 KiB there and 20 KiB back that waits 60 ms for its accept(), and one that is refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        connected = time.monotonic_ns()
        time.sleep(0.06)
        least_us = (time.monotonic_ns() - connected) / 1000
        server, (_, client_port) = listener.accept()
    converse(client, server)
    with socket.socket(socket.AF_INET6) as refused:
        assert refused.connect_ex(("::1", port)) != 0
    return {"port": port, "client_port": client_port, "least_us": least_us}


def lossy() -> Facts:
    """What a client sends over a network (its own) that loses everything for a while."""
    port, client_port, client, accepted = connected_in_own_network()
    with accepted, client:
        netem = ("dev", "lo", "root", "netem", "loss")
        _run("tc", "qdisc", "add", *netem, "100%")
        client.sendall(b"lost")
        _wait_for(lambda: _snmp("netstat", "TcpExt", "TCPTimeouts") > 1)
        _run("tc", "qdisc", "change", *netem, "0%")
        assert accepted.recv(4) == b"lost"
        dropped = json.loads(_output("tc", "-s", "-j", "qdisc", "show", "dev", "lo"))[0]["drops"]
        again = _snmp("snmp", "Tcp", "RetransSegs")
    return {"port": port, "client_port": client_port, "dropped": dropped, "again": again}


def _snmp(file: str, group: str, name: str) -> int:
    """A counter of this network namespace, in /proc/net/snmp or netstat."""
    text = Path(f"/proc/self/net/{file}").read_text()
    names, numbers = (line.split() for line in text.splitlines() if line.startswith(f"{group}:"))
    return int(numbers[names.index(name)])


def _output(*words: str) -> str:
    import subprocess

    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def full_backlog() -> Facts:
    """Three connect to a socket whose queue is full with two: the third's SYN is dropped until one is accepted."""
    own_network()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    port = listener.getsockname()[1]
    early = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    late = socket.socket()
    late.setblocking(False)
    began = time.monotonic_ns()
    late.connect_ex(("127.0.0.1", port))
    _wait_for(lambda: _snmp("netstat", "TcpExt", "ListenOverflows") >= 1)
    listener.accept()[0].close()
    select.select([], [late], [])
    assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    took_us = (time.monotonic_ns() - began) / 1000
    for each in early:
        each.close()
    dropped = _snmp("netstat", "TcpExt", "ListenOverflows")
    return {"port": port, "late_port": late.getsockname()[1], "dropped": dropped, "took_us": took_us}


def delayed() -> Facts:
    """A connection over a network (its own) that takes 600 ms each way."""
    own_network()
    _run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "600ms")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic_ns()
        client = socket.create_connection(listener.getsockname())
        took_us = (time.monotonic_ns() - began) / 1000
        facts: Facts = {"port": listener.getsockname()[1], "took_us": took_us}
        client.close()
    return facts


def kvm() -> Facts:
    """A guest of 8 bytes: it writes to an I/O port 50 times, and halts."""
    create_vm, mmap_size, create_vcpu, set_memory = 0xAE01, 0xAE04, 0xAE41, 0x4020AE46
    run, get_sregs, set_sregs, set_regs = 0xAE80, 0x8138AE83, 0x4138AE84, 0x4090AE82
    exit_io, exit_halt = 2, 5  # include/uapi/linux/kvm.h
    door = os.open("/dev/kvm", os.O_RDWR)
    machine = fcntl.ioctl(door, create_vm, 0)
    memory = mmap.mmap(-1, _PAGE)
    # mov $50, %cx; again: out %al, $0x10; loop again; hlt
    memory[:8] = bytes.fromhex("b93200 e610 e2fc f4".replace(" ", ""))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, set_memory, struct.pack("IIQQQ", 0, 0, 0x1000, _PAGE, address))
    cpu = fcntl.ioctl(machine, create_vcpu, 0)
    state = mmap.mmap(cpu, fcntl.ioctl(door, mmap_size, 0))
    segments = bytearray(312)  # struct kvm_sregs: the code segment is the first, its base and selector become 0
    fcntl.ioctl(cpu, get_sregs, segments)
    segments[0:8], segments[12:14] = bytes(8), bytes(2)
    fcntl.ioctl(cpu, set_sregs, bytes(segments))
    # struct kvm_regs: 16 registers, the instruction pointer, flags (bit 1 is always set).
    fcntl.ioctl(cpu, set_regs, struct.pack("16QQQ", *bytes(16), 0x1000, 2))
    reasons: list[int] = []
    while not reasons or reasons[-1] == exit_io:
        fcntl.ioctl(cpu, run, 0)
        reasons.append(struct.unpack_from("I", state, 8)[0])
    assert reasons[-1] == exit_halt, reasons
    return {"ports": reasons.count(exit_io)}


if __name__ == "__main__":
    main_of(globals())
