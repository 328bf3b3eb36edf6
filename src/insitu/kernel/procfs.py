"""What /proc and /sys say about processes, CPUs and settings, as the kernel writes it.

A process may vanish at any time: what concerns one process raises ProcessLookupError (or another OSError) then.
Sources: Documentation/filesystems/proc.rst and Documentation/admin-guide/cputopology.rst.
"""

# Paths of /proc are plain text, and these functions may run once for each thread of the machine.
# ruff: noqa: PTH115, PTH123, PTH208

import contextlib
import errno
import re
from collections.abc import Iterator
from os import listdir, readlink
from typing import NamedTuple

__all__ = [
    "Area",
    "Status",
    "areas",
    "areas_of",
    "available_memory",
    "boot_id",
    "comm",
    "cpu_list",
    "exe",
    "mapped_file",
    "maps_text",
    "memory",
    "online_cpus",
    "pids",
    "pmu_type",
    "root",
    "run_delay_ns",
    "scheduling",
    "sees_our_files",
    "start_time",
    "status",
    "sysctl",
    "text",
    "threads",
    "user_registers",
]


class Area(NamedTuple):
    """One line of /proc/PID/maps; ``path`` is as the process sees it, bytes because file names are."""

    start: int
    end: int
    permissions: str
    offset: int
    major: int
    minor: int
    inode: int
    path: bytes


class Scheduling(NamedTuple):
    """A thread's state (a letter as in ps), its CPU (the last, if it does not run), and how often it left a CPU."""

    state: str
    cpu: int
    switches: int


class Status(NamedTuple):
    """What /proc/PID/status says of a thread: its process, that one's parent, its effective user and its name.

    ``inner_pid`` is the thread's id in its innermost pid namespace.
    """

    tid: int
    pid: int
    ppid: int
    uid: int
    comm: bytes
    inner_pid: int


def text(path: str) -> str | None:
    """The text of a file, stripped; None if it is absent or unreadable."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def sysctl(name: str) -> str | None:
    """The value of a setting such as "kernel.perf_event_paranoid"; None if absent or unreadable."""
    return text("/proc/sys/" + name.replace(".", "/"))


def cpu_list(text: str, most: int = 1 << 16) -> list[int]:
    """The CPUs of a list in the kernel's notation: "0-3,8" is [0, 1, 2, 3, 8]. A range beyond ``most`` ends there."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), min(int(last or first), max(most, int(first))) + 1))
    return cpus


def online_cpus() -> list[int]:
    """The numbers of the CPUs that are online now; they need not be consecutive."""
    return cpu_list(text("/sys/devices/system/cpu/online") or "0")


def pmu_type(name: str) -> int | None:
    """The event type of a dynamic PMU such as "uprobe" or "kprobe"; None where the kernel has none of that name."""
    number = text(f"/sys/bus/event_source/devices/{name}/type")
    return None if number is None else int(number)


def pids() -> list[int]:
    """All processes that this /proc shows, kernel threads included."""
    return [int(name) for name in listdir("/proc") if name.isdigit()]


def threads(pid: int) -> list[int]:
    """The threads of a process. Raises ProcessLookupError if there is no such process."""
    try:
        return [int(name) for name in listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None


def comm(tid: int) -> bytes:
    """The name of a thread, at most 15 bytes."""
    return _bytes(f"/proc/{tid}/comm").rstrip(b"\n")


def status(tid: int) -> Status:
    """Process, parent, user and name of a thread."""
    path = f"/proc/{tid}/status"
    with _parsed(path):
        fields = dict(line.split(b":\t", 1) for line in _bytes(path).split(b"\n") if b":\t" in line)
        uid = int(fields[b"Uid"].split()[1])
        inner = int(fields.get(b"NSpid", b"%d" % tid).split()[-1])
        return Status(tid, int(fields[b"Tgid"]), int(fields[b"PPid"]), uid, fields[b"Name"], inner)


def scheduling(tid: int) -> Scheduling:
    """Whether and where a thread runs (proc_pid_stat(5)). Raises ProcessLookupError if there is none."""
    path = f"/proc/{tid}/task/{tid}/stat"  # /proc/TID/stat adds up the times of all threads of the process
    with _parsed(path):
        fields = _bytes(path).rpartition(b") ")[2].split()
        return Scheduling(fields[0].decode(), int(fields[36]), switches(tid))


def switches(tid: int) -> int:
    """How often a thread has left a CPU, by itself or not. Raises ProcessLookupError if there is none."""
    return sum(map(int, re.findall(rb"voluntary_ctxt_switches:\t(\d+)", _bytes(f"/proc/{tid}/status"))))


def user_registers(tid: int) -> tuple[int, int]:
    """The user stack and instruction pointers of a thread that is blocked (proc_pid_syscall(5)); else zeros."""
    try:
        words = _bytes(f"/proc/{tid}/syscall").split()
        return (int(words[-2], 16), int(words[-1], 16)) if len(words) > 2 else (0, 0)
    except (OSError, ValueError):
        return 0, 0


def areas(pid: int) -> Iterator[Area]:
    """The mapped areas of a process, in ascending order. A kernel thread has none."""
    yield from areas_of(maps_text(pid), f"/proc/{pid}/maps")


def maps_text(pid: int) -> bytes:
    """What /proc/PID/maps says."""
    return _bytes(f"/proc/{pid}/maps")


def environment(pid: int) -> list[bytes]:
    """The variables, NAME=VALUE, that a process was started with, as far as it has left them in place.

    Raises PermissionError for a process of another user.
    """
    return _bytes(f"/proc/{pid}/environ").split(b"\0")


def areas_of(maps: bytes, path: str = "/proc/PID/maps") -> Iterator[Area]:
    """The areas of /proc/PID/maps, in ascending order. ``path`` is what an error names."""
    # Not splitlines(): file names may hold carriage returns.
    for line in filter(None, maps.split(b"\n")):
        with _parsed(path):
            area = _area(line)
        yield area


def _area(line: bytes) -> Area:
    # Address range, permissions, offset, device and inode, then padding and the path, in which a newline is \012.
    words = line.split(None, 5)
    start, end = words[0].split(b"-")
    major, minor = words[3].split(b":")
    path = words[5].replace(b"\\012", b"\n") if len(words) > 5 else b""
    return Area(
        int(start, 16),
        int(end, 16),
        words[1].decode(),
        int(words[2], 16),
        int(major, 16),
        int(minor, 16),
        int(words[4]),
        path,
    )


def root(pid: int) -> str:
    """The path through which the root directory of a process is seen; others' need CAP_SYS_PTRACE."""
    return f"/proc/{pid}/root"


def split_root(path: str) -> tuple[str, str]:
    """The root directory that ``path`` is seen through, "/" if it is ours, and the path below it."""
    words = path.split("/", 4)
    if len(words) == 5 and words[:2] == ["", "proc"] and words[2].isdecimal() and words[3] == "root":
        return root(int(words[2])), f"/{words[4]}"
    return "/", path


def sees_our_files(pid: int) -> bool:
    """Whether a process has our mount namespace and root directory, so that paths mean the same to both."""
    return all(readlink(f"/proc/{pid}/{link}") == readlink(f"/proc/self/{link}") for link in ("ns/mnt", "root"))


def exe(pid: int) -> tuple[str, str]:
    """The path through which the program of a process can be opened, deleted or not, and the name that it has."""
    path = f"/proc/{pid}/exe"
    try:
        return path, readlink(path)
    except FileNotFoundError:
        raise ProcessLookupError(f"{path}: no such process, or a kernel thread") from None


def arguments(pid: int, most_bytes: int) -> bytes:
    """The first bytes of a process' arguments, each of which ends with a zero byte; none of a kernel thread's."""
    path = f"/proc/{pid}/cmdline"
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most_bytes)
    except FileNotFoundError:
        raise ProcessLookupError(f"{path}: no such process") from None


def mapped_file(pid: int, area: Area) -> str:
    """The path through which the file of a mapped area can be opened, deleted or not (proc_pid_map_files(5))."""
    return f"/proc/{pid}/map_files/{area.start:x}-{area.end:x}"


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot: with the pid it identifies a process."""
    # The name, in parentheses, may hold anything; field 22 of proc_pid_stat(5) is the 20th after it.
    path = f"/proc/{pid}/stat"
    with _parsed(path):
        return int(_bytes(path).rpartition(b")")[2].split()[19])


def run_delay_ns(pid: int, tid: int) -> int:
    """How long a thread has waited, runnable, for a CPU (Documentation/scheduler/sched-stats.rst)."""
    path = f"/proc/{pid}/task/{tid}/schedstat"
    with _parsed(path):
        return int(_bytes(path).split()[1])


def available_memory() -> int:
    """How many bytes of memory programs can have without swapping, by the kernel's estimate (proc_meminfo(5))."""
    lines = (text("/proc/meminfo") or "").splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)


def boot_id() -> str:
    """Identifies this boot of this machine (proc_sys_kernel(5)); "" if it cannot be read."""
    return text("/proc/sys/kernel/random/boot_id") or ""


def memory(pid: int, address: int, size: int) -> bytes:
    """At most ``size`` bytes of a process's memory (proc_pid_mem(5)); fewer where it is not mapped."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        return file.read(size)


@contextlib.contextmanager
def _parsed(path: str) -> Iterator[None]:
    """Raise OSError for a file that is not as the kernel writes it, as in a sandbox with a /proc of its own."""
    try:
        yield
    except (ValueError, IndexError, KeyError):
        raise OSError(errno.EINVAL, "not in the kernel's format", path) from None


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise ProcessLookupError(f"{path}: no such process") from None
