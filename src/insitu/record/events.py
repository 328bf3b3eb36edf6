"""Which perf events a CPU profile is made of here: what was asked for, as far as machine and user can have it."""

import errno
import os
import time
from typing import Final, Literal, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Attr, Hardware, ReadFormat, Sample, Software, Type, open_event, refusal

__all__ = ["EVENTS", "MAX_STACK_BYTES", "Event", "Stacks", "choose", "dummy_event"]

Stacks = Literal["fp", "dwarf", "none"]

EVENTS: Final[dict[str, tuple[Type, int]]] = {
    "cycles": (Type.HARDWARE, Hardware.CPU_CYCLES),
    "instructions": (Type.HARDWARE, Hardware.INSTRUCTIONS),
    "cache-misses": (Type.HARDWARE, Hardware.CACHE_MISSES),
    "branch-misses": (Type.HARDWARE, Hardware.BRANCH_MISSES),
    "cpu-clock": (Type.SOFTWARE, Software.CPU_CLOCK),
    "task-clock": (Type.SOFTWARE, Software.TASK_CLOCK),
    "page-faults": (Type.SOFTWARE, Software.PAGE_FAULTS),
    "minor-faults": (Type.SOFTWARE, Software.PAGE_FAULTS_MIN),
    "major-faults": (Type.SOFTWARE, Software.PAGE_FAULTS_MAJ),
    "context-switches": (Type.SOFTWARE, Software.CONTEXT_SWITCHES),
    "cpu-migrations": (Type.SOFTWARE, Software.CPU_MIGRATIONS),
}
"""Event name, as users type it -> type and config of struct perf_event_attr."""

MAX_STACK_BYTES: Final = 65528
"""The largest copy of a user stack: perf_sample_stack_user is cut to a record's 16-bit size, in units of 8."""

# All general registers that user code can have, by arch/x86/include/uapi/asm/perf_regs.h (every one up to R15 but
# the segment registers DS, ES, FS, GS) and arch/arm64/include/uapi/asm/perf_regs.h (x0 to pc).
_USER_REGISTERS: Final = {"x86_64": 0xFF0FFF, "aarch64": 0x1FFFFFFFF}

# What newer kernels can do besides, in the order in which an older one is let off.
_LOST_SINCE_6_0: Final = "lost"
_BUILD_ID_SINCE_5_12: Final = "build_id"


class Event(NamedTuple):
    """One event to open: its name and the attributes, which all targets share."""

    name: str
    attr: Attr


def choose(
    names: tuple[str, ...] = (),
    *,
    frequency: int = 99,
    stacks: Stacks = "fp",
    stack_bytes: int = 8192,
    user: bool = True,
    kernel: bool = True,
    whole_system: bool = False,
) -> tuple[list[Event], list[str]]:
    """The events for ``names`` and notes for the user about what could not be had.

    Without names it is hardware cycles or, where no PMU counts them, cpu-clock. Each event is opened once on this
    process, so that a refusal (InsituError) comes before anything is started. The first event carries the records
    of mappings, names, forks and exits.
    """
    notes: list[str] = []
    attrs: list[Event] = []
    for name in names or ("cycles",):
        if name not in EVENTS:
            known = ", ".join(EVENTS)
            raise InsituError(f"no event {name!r}", remedy=f"one of: {known}", status=2)
    sample_type = _sample_type(stacks, several=len(names) > 1)
    for name in names or ("cycles",):
        attr = _attr(name, sample_type, frequency, stack_bytes)
        attr.exclude_user, attr.exclude_kernel, attr.exclude_hv = not user, not kernel, not kernel
        # The unwinder makes user frames from the copied stack.
        attr.exclude_callchain_user = stacks == "dwarf"
        if not attrs:
            attr.mmap = attr.mmap2 = attr.comm = attr.comm_exec = attr.task = attr.build_id = 1
            attr.ksymbol = attr.bpf_event = whole_system
        try:
            _fit(attr, notes)
        except InsituError as error:
            if names or refusal(error) not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
            notes.append("no hardware counter for cycles here: sampling the cpu-clock timer instead")
            name = "cpu-clock"
            attr.type, attr.config = EVENTS[name]
            attr.exclude_idle, attr.exclude_guest = 1, 0
            _fit(attr, notes)
        attrs.append(Event(name, attr))
    return attrs, notes


def dummy_event() -> Event:
    """An event that counts nothing, for the records of mappings, names, forks and exits that come with it."""
    attr = Attr(
        type=Type.SOFTWARE,
        config=Software.DUMMY,
        sample_period=1,
        sample_type=Sample.TID | Sample.TIME | Sample.CPU,
        read_format=ReadFormat.ID | ReadFormat.LOST,
        disabled=1,
        exclude_kernel=1,
        exclude_hv=1,
        sample_id_all=1,
        use_clockid=1,
        clockid=time.CLOCK_MONOTONIC,
        watermark=1,
        mmap=1,
        mmap2=1,
        comm=1,
        comm_exec=1,
        task=1,
        build_id=1,
    )
    _fit(attr, [])
    return Event("dummy", attr)


def _sample_type(stacks: Stacks, several: bool) -> Sample:
    sample = Sample.IP | Sample.TID | Sample.TIME | Sample.CPU | Sample.PERIOD
    if stacks != "none":
        sample |= Sample.CALLCHAIN
    if stacks == "dwarf":
        sample |= Sample.REGS_USER | Sample.STACK_USER
    if several:
        sample |= Sample.IDENTIFIER
    return sample


def _attr(name: str, sample_type: Sample, frequency: int, stack_bytes: int) -> Attr:
    kind, config = EVENTS[name]
    attr = Attr(
        type=kind,
        config=config,
        sample_period=frequency,
        freq=1,
        sample_type=sample_type,
        read_format=ReadFormat.ID | ReadFormat.LOST,
        disabled=1,
        sample_id_all=1,
        use_clockid=1,
        clockid=time.CLOCK_MONOTONIC,
        watermark=1,
    )
    # A timer goes on while a CPU idles, other than its cycles do; where time is spent, that is no answer.
    attr.exclude_idle = kind == Type.SOFTWARE
    # What a virtual machine does on this host has addresses of its own.
    attr.exclude_guest = kind == Type.HARDWARE
    if sample_type & Sample.REGS_USER:
        machine = os.uname().machine
        if machine not in _USER_REGISTERS:
            raise InsituError(f"no stack copies on {machine}", remedy="use --stacks fp")
        attr.sample_regs_user = _USER_REGISTERS[machine]
        attr.sample_stack_user = stack_bytes
    return attr


def _fit(attr: Attr, notes: list[str]) -> None:
    """Take away what this kernel does not know and this user may not have, until the event opens."""
    newer = [_LOST_SINCE_6_0, _BUILD_ID_SINCE_5_12]
    while True:
        try:
            os.close(open_event(attr, pid=0, cpu=procfs.online_cpus()[0]))
            return
        except InsituError as error:
            code = refusal(error)
            if code == errno.EINVAL and newer and attr.sample_period <= _highest_frequency():
                if newer.pop(0) == _LOST_SINCE_6_0:
                    attr.read_format = ReadFormat.ID
                else:
                    attr.build_id = 0
            elif code in (errno.EACCES, errno.EPERM) and not attr.exclude_kernel and not attr.exclude_user:
                level = procfs.sysctl("kernel.perf_event_paranoid")
                notes.append(f"user code only: kernel.perf_event_paranoid={level} keeps the kernel's from this user")
                attr.exclude_kernel = attr.exclude_hv = attr.exclude_callchain_kernel = 1
            else:
                raise


def _highest_frequency() -> int:
    return int(procfs.sysctl("kernel.perf_event_max_sample_rate") or 1 << 62)
