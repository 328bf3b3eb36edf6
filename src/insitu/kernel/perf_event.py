"""perf_event_open(2): events to sample, count or hang a BPF program on.

Layouts and values are those of include/uapi/linux/perf_event.h. Nothing here imports numpy: a recorder
starts in the time that Python starts.
"""

import ctypes
import errno
import fcntl
import os
from enum import IntEnum, IntFlag
from typing import ClassVar, Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.syscalls import syscall

__all__ = [
    "CALLCHAIN_CONTEXT",
    "Attr",
    "Branch",
    "Flag",
    "Hardware",
    "Ioctl",
    "Misc",
    "ReadFormat",
    "Record",
    "Sample",
    "Software",
    "Type",
    "disable",
    "enable",
    "event_id",
    "open_event",
    "read_lost",
    "redirect",
    "refusal",
    "set_bpf",
    "set_filter",
]


class Type(IntEnum):
    """enum perf_type_id. PMUs of their own (uprobe, kprobe, ...) have a number in sysfs: see ``procfs.pmu_type``."""

    HARDWARE = 0
    SOFTWARE = 1
    TRACEPOINT = 2
    HW_CACHE = 3
    RAW = 4
    BREAKPOINT = 5


class Hardware(IntEnum):
    """enum perf_hw_id: ``config`` of Type.HARDWARE."""

    CPU_CYCLES = 0
    INSTRUCTIONS = 1
    CACHE_REFERENCES = 2
    CACHE_MISSES = 3
    BRANCH_INSTRUCTIONS = 4
    BRANCH_MISSES = 5
    BUS_CYCLES = 6
    STALLED_CYCLES_FRONTEND = 7
    STALLED_CYCLES_BACKEND = 8
    REF_CPU_CYCLES = 9


class Software(IntEnum):
    """enum perf_sw_ids: ``config`` of Type.SOFTWARE."""

    CPU_CLOCK = 0
    TASK_CLOCK = 1
    PAGE_FAULTS = 2
    CONTEXT_SWITCHES = 3
    CPU_MIGRATIONS = 4
    PAGE_FAULTS_MIN = 5
    PAGE_FAULTS_MAJ = 6
    ALIGNMENT_FAULTS = 7
    EMULATION_FAULTS = 8
    DUMMY = 9
    BPF_OUTPUT = 10
    CGROUP_SWITCHES = 11


class Sample(IntFlag):
    """enum perf_event_sample_format: what a sample holds, in the order of the record's fields but for IDENTIFIER."""

    IP = 1 << 0
    TID = 1 << 1
    TIME = 1 << 2
    ADDR = 1 << 3
    READ = 1 << 4
    CALLCHAIN = 1 << 5
    ID = 1 << 6
    CPU = 1 << 7
    PERIOD = 1 << 8
    STREAM_ID = 1 << 9
    RAW = 1 << 10
    BRANCH_STACK = 1 << 11
    REGS_USER = 1 << 12
    STACK_USER = 1 << 13
    WEIGHT = 1 << 14
    DATA_SRC = 1 << 15
    IDENTIFIER = 1 << 16
    TRANSACTION = 1 << 17
    REGS_INTR = 1 << 18
    PHYS_ADDR = 1 << 19
    AUX = 1 << 20
    CGROUP = 1 << 21
    DATA_PAGE_SIZE = 1 << 22
    CODE_PAGE_SIZE = 1 << 23
    WEIGHT_STRUCT = 1 << 24


class Branch(IntFlag):
    """enum perf_branch_sample_type."""

    USER = 1 << 0
    KERNEL = 1 << 1
    HV = 1 << 2
    ANY = 1 << 3
    ANY_CALL = 1 << 4
    ANY_RETURN = 1 << 5
    IND_CALL = 1 << 6
    CALL_STACK = 1 << 11


class ReadFormat(IntFlag):
    """enum perf_event_read_format: what read(2) of an event returns."""

    TOTAL_TIME_ENABLED = 1 << 0
    TOTAL_TIME_RUNNING = 1 << 1
    ID = 1 << 2
    GROUP = 1 << 3
    LOST = 1 << 4  # Linux 6.0


class Flag(IntFlag):
    """Flags of perf_event_open(2)."""

    FD_NO_GROUP = 1 << 0
    FD_OUTPUT = 1 << 1
    PID_CGROUP = 1 << 2
    FD_CLOEXEC = 1 << 3


class Record(IntEnum):
    """enum perf_event_type: the types of the records in a ring."""

    MMAP = 1
    LOST = 2
    COMM = 3
    EXIT = 4
    THROTTLE = 5
    UNTHROTTLE = 6
    FORK = 7
    READ = 8
    SAMPLE = 9
    MMAP2 = 10
    AUX = 11
    ITRACE_START = 12
    LOST_SAMPLES = 13
    SWITCH = 14
    SWITCH_CPU_WIDE = 15
    NAMESPACES = 16
    KSYMBOL = 17
    BPF_EVENT = 18
    CGROUP = 19
    TEXT_POKE = 20
    AUX_OUTPUT_HW_ID = 21


class Misc(IntFlag):
    """The ``misc`` field of a record's header. The low three bits are a number (the CPU's mode), not flags."""

    KERNEL = 1
    USER = 2
    HYPERVISOR = 3
    GUEST_KERNEL = 4
    GUEST_USER = 5
    CPUMODE_MASK = 7
    COMM_EXEC = 1 << 13
    MMAP_BUILD_ID = 1 << 14


CALLCHAIN_CONTEXT: Final = {
    (1 << 64) - 32: "hypervisor",
    (1 << 64) - 128: "kernel",
    (1 << 64) - 512: "user",
    (1 << 64) - 2048: "guest",
    (1 << 64) - 2176: "guest_kernel",
    (1 << 64) - 2560: "guest_user",
}
"""enum perf_callchain_context: marks within a callchain that say where the addresses after them are."""


class Ioctl(IntEnum):
    """PERF_EVENT_IOC_*: _IO('$', n), and with an 8-byte (or for QUERY_BPF and the like a pointer's) argument."""

    ENABLE = 0x2400
    DISABLE = 0x2401
    REFRESH = 0x2402
    RESET = 0x2403
    SET_OUTPUT = 0x2405
    PERIOD = 0x40082404
    SET_FILTER = 0x40082406
    ID = 0x80082407
    SET_BPF = 0x40042408
    PAUSE_OUTPUT = 0x40042409
    QUERY_BPF = 0xC008240A
    MODIFY_ATTRIBUTES = 0x4008240B


_FLAG_BITS: Final = (
    ("disabled", 1),
    ("inherit", 1),
    ("pinned", 1),
    ("exclusive", 1),
    ("exclude_user", 1),
    ("exclude_kernel", 1),
    ("exclude_hv", 1),
    ("exclude_idle", 1),
    ("mmap", 1),
    ("comm", 1),
    ("freq", 1),
    ("inherit_stat", 1),
    ("enable_on_exec", 1),
    ("task", 1),
    ("watermark", 1),
    ("precise_ip", 2),
    ("mmap_data", 1),
    ("sample_id_all", 1),
    ("exclude_host", 1),
    ("exclude_guest", 1),
    ("exclude_callchain_kernel", 1),
    ("exclude_callchain_user", 1),
    ("mmap2", 1),
    ("comm_exec", 1),
    ("use_clockid", 1),
    ("context_switch", 1),
    ("write_backward", 1),
    ("namespaces", 1),
    ("ksymbol", 1),
    ("bpf_event", 1),
    ("aux_output", 1),
    ("cgroup", 1),
    ("text_poke", 1),
    ("build_id", 1),
    ("inherit_thread", 1),
    ("remove_on_exec", 1),
    ("sigtrap", 1),
    ("reserved_1", 26),
)


class Attr(ctypes.Structure):
    """struct perf_event_attr, with the C names; a union's member has the name of its first.

    ``sample_period`` is the frequency in hertz where ``freq`` is 1, ``wakeup_events`` the bytes of wakeup_watermark
    where ``watermark`` is 1; ``config1`` is also bp_addr, kprobe_func and uprobe_path, ``config2`` bp_len,
    kprobe_addr and probe_offset. ``size`` is filled in. An older kernel takes this size as long as all
    beyond what it knows is zero.
    """

    _fields_: ClassVar = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        *((name, ctypes.c_uint64, bits) for name, bits in _FLAG_BITS),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
        ("config2", ctypes.c_uint64),
        ("branch_sample_type", ctypes.c_uint64),
        ("sample_regs_user", ctypes.c_uint64),
        ("sample_stack_user", ctypes.c_uint32),
        ("clockid", ctypes.c_int32),
        ("sample_regs_intr", ctypes.c_uint64),
        ("aux_watermark", ctypes.c_uint32),
        ("sample_max_stack", ctypes.c_uint16),
        ("reserved_2", ctypes.c_uint16),
        ("aux_sample_size", ctypes.c_uint32),
        ("aux_action", ctypes.c_uint32),  # Linux 6.12
        ("sig_data", ctypes.c_uint64),
        ("config3", ctypes.c_uint64),  # Linux 6.2
    ]

    def __init__(self, **values: int) -> None:
        super().__init__(**values)
        self.size = ctypes.sizeof(type(self))


def open_event(attr: Attr, *, pid: int = 0, cpu: int = -1, group_fd: int = -1, flags: int = Flag.FD_CLOEXEC) -> int:
    """Open one event; returns its descriptor, which the caller closes.

    ``pid`` 0 is the calling thread, -1 every one; ``cpu`` -1 is any. Raises InsituError, whose cause is the kernel's
    OSError, so that a caller with something else to try can look at its ``refusal``.
    """
    try:
        return syscall("perf_event_open", ctypes.addressof(attr), pid, cpu, group_fd, int(flags))
    except OSError as error:
        message, remedy = _explained(error, attr, pid, cpu)
        raise InsituError(message, remedy=remedy) from error


def refusal(error: InsituError) -> int:
    """The errno of the kernel's refusal that ``error`` reports; 0 for other errors."""
    cause = error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def _of_another_user(pid: int) -> bool:
    try:
        return os.geteuid() not in (0, procfs.status(pid).uid)
    except ProcessLookupError:
        return False


def _explained(error: OSError, attr: Attr, pid: int, cpu: int) -> tuple[str, str]:
    """Message and remedy for a refusal of perf_event_open(2), as kernel/events/core.c gives them."""
    what = f"cannot open a perf event ({_name(attr)})"
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        level = procfs.sysctl("kernel.perf_event_paranoid")
        if pid > 0 and _of_another_user(pid):  # kernel/events/core.c: perf_check_permission(), whatever the level
            return f"process {pid} belongs to another user", "run as root, or with CAP_PERFMON"
        whose = f"of process {pid}" if pid > 0 else "of every process" if pid == -1 else "of this process"
        # Kernels that distributions patch for levels above 2 then ask for CAP_SYS_ADMIN alone.
        capability = "CAP_PERFMON" if level is None or int(level) <= 2 else "CAP_SYS_ADMIN"
        return (
            f"{what} {whose}: permission denied (kernel.perf_event_paranoid is {level})",
            f"run as root or with {capability}, or: sysctl kernel.perf_event_paranoid={0 if pid == -1 else 1}",
        )
    if code == errno.ESRCH:
        return f"no process or thread {pid}", ""
    if code == errno.EMFILE:
        return f"{what}: too many open files", "raise the limit: ulimit -n 65536"
    if code in (errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP):
        if cpu >= 0 and code == errno.ENODEV and attr.type == Type.SOFTWARE:
            return f"{what}: CPU {cpu} is offline", ""
        return f"{what}: this machine or kernel has no such event", "insitu doctor lists what it has"
    if code == errno.EBUSY:
        return f"{what}: another tool holds the counter", "end it, or use a software event such as cpu-clock"
    if (
        code == errno.EINVAL
        and attr.freq
        and attr.sample_period > _number(procfs.sysctl("kernel.perf_event_max_sample_rate"))
    ):
        limit = procfs.sysctl("kernel.perf_event_max_sample_rate")
        return (
            f"{what}: {attr.sample_period} Hz is more than the kernel allows ({limit} Hz)",
            f"ask for less, or: sysctl kernel.perf_event_max_sample_rate={attr.sample_period}",
        )
    if code in (errno.EINVAL, errno.E2BIG):
        return f"{what}: this kernel ({os.uname().release}) does not know an option of it", ""
    if code == errno.ENOSYS:
        return f"{what}: this kernel was built without perf events", "CONFIG_PERF_EVENTS=y"
    return f"{what}: {os.strerror(code or 0)}", ""


def _name(attr: Attr) -> str:
    names: dict[int, type[IntEnum]] = {Type.HARDWARE: Hardware, Type.SOFTWARE: Software}
    if attr.type in names and attr.config in names[attr.type]._value2member_map_:
        return names[attr.type](attr.config).name.lower().replace("_", "-")
    if attr.type in Type._value2member_map_:
        return f"{Type(attr.type).name.lower()} {attr.config:#x}"
    return f"type {attr.type}, config {attr.config:#x}"


def _number(text: str | None) -> float:
    return int(text) if text and text.isdigit() else float("inf")


def enable(fd: int) -> None:
    """Start an event."""
    fcntl.ioctl(fd, Ioctl.ENABLE, 0)


def disable(fd: int) -> None:
    """Stop an event; inherited ones of children too."""
    fcntl.ioctl(fd, Ioctl.DISABLE, 0)


def event_id(fd: int) -> int:
    """The id by which records name this event (Sample.ID, Sample.IDENTIFIER, a LOST record)."""
    raw = fcntl.ioctl(fd, Ioctl.ID, bytes(8))
    return int.from_bytes(raw, "little")


def read_lost(fd: int) -> int:
    """How many records of an event, and of those inherited from it, found no room in the ring.

    The event must have been opened with ReadFormat.ID | ReadFormat.LOST and nothing else.
    """
    return int.from_bytes(os.read(fd, 24)[16:24], "little")  # value, id, lost


def redirect(fd: int, ring_fd: int) -> None:
    """Let the event write into the ring of another one, which must be bound to the same CPU and clock."""
    fcntl.ioctl(fd, Ioctl.SET_OUTPUT, ring_fd)


def set_filter(fd: int, text: str) -> None:
    """Count only what a tracepoint's fields match (Documentation/trace/events.rst, section 5). Raises OSError."""
    fcntl.ioctl(fd, Ioctl.SET_FILTER, text.encode() + b"\0")


def set_bpf(fd: int, program_fd: int) -> None:
    """Attach a loaded BPF program to the event; it is detached when the event is closed. Raises OSError."""
    fcntl.ioctl(fd, Ioctl.SET_BPF, program_fd)
