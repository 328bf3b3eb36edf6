"""The perf events of a CPU profile: those asked for, as far as this machine, kernel and user allow."""

import errno
import os
import time
from typing import Final, Literal, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Attr, ReadFormat, Sample, Software, Type, open_event, refusal
from insitu.record.event_names import NAMES, NamedEvent, named_events

__all__ = ["MAX_STACK_BYTES", "Event", "Stacks", "choose", "dummy_event"]

Stacks = Literal["fp", "dwarf", "none"]

MAX_STACK_BYTES: Final = 65528
"""The largest copy of a user stack: perf_sample_stack_user is cut to a record's 16-bit size, in units of 8."""

# All general registers that user code can have, by arch/x86/include/uapi/asm/perf_regs.h (every one up to R15 but
# the segment registers DS, ES, FS, GS) and arch/arm64/include/uapi/asm/perf_regs.h (x0 to pc).
_USER_REGISTERS: Final = {"x86_64": 0xFF0FFF, "aarch64": 0x1FFFFFFFF}

# Features of newer kernels, in the order in which they are dropped on an older one.
_LOST_SINCE_6_0: Final = "lost"
_BUILD_ID_SINCE_5_12: Final = "build_id"


_DEFAULT_HERTZ: Final = 99


class Event(NamedTuple):
    """One event to open: its name, its attributes, the same for all targets, and its group (-1: none)."""

    name: str
    attr: Attr
    group: int = -1


def choose(
    names: str = "",
    *,
    frequency: int | None = None,
    period: int | None = None,
    stacks: Stacks = "fp",
    stack_bytes: int = 8192,
    user: bool = True,
    kernel: bool = True,
    whole_system: bool = False,
) -> tuple[list[Event], list[str]]:
    """Returns the events for ``names`` (as -e takes them) and notes for the user about what is not available.

    Without names it is hardware cycles or, where no PMU counts them, cpu-clock. ``period`` makes a sample of every so
    many occurrences of each event, ``frequency`` so many samples a second; without either, 99 a second of clocks and
    cycles, and one of each fault, switch and tracepoint, whose periods the kernel would guess badly.
    Each event is opened once on this process, so that a refusal (InsituError) comes before anything is started.
    The first event carries the records of mappings, names, forks and exits.
    """
    notes: list[str] = []
    chosen: list[Event] = []
    named = named_events(names) if names else [NamedEvent("cycles", *NAMES["cycles"])]
    if not named:
        raise InsituError(f"-e {names} names no event", remedy="-e list lists events", status=2)
    sample_type = _sample_type(stacks, several=len(named) > 1)
    for event in named:
        attr = _attr(event, sample_type, stack_bytes)
        is_timed = frequency is not None or not event.is_counted
        attr.freq = int(period is None and is_timed)
        attr.sample_period = period or (frequency or _DEFAULT_HERTZ if is_timed else 1)
        if not attr.freq and event.is_counted:
            # With PERIOD each of them is a sample, whatever the period: kernel/events/core.c, perf_swevent_event().
            attr.sample_type &= ~Sample.PERIOD
        attr.exclude_user = not (user and event.user)
        attr.exclude_kernel = attr.exclude_hv = not (kernel and event.kernel)
        # The unwinder makes user frames from the copied stack.
        attr.exclude_callchain_user = stacks == "dwarf"
        if not chosen:
            attr.mmap = attr.mmap2 = attr.comm = attr.comm_exec = attr.task = attr.build_id = 1
            attr.ksymbol = attr.bpf_event = whole_system
        name = event.name
        try:
            _fit(attr, notes)
        except InsituError as error:
            if names or not _without_pmu(attr, refusal(error)):
                raise
            notes.append("no PMU (virtual machine?): sampling on cpu-clock")
            name = "cpu-clock"
            attr.type, attr.config = NAMES[name]
            attr.exclude_idle, attr.exclude_guest = 1, 0
            _fit(attr, notes)
        if event.is_in_kernel and attr.exclude_kernel:
            raise _never_seen(event, asked=not (kernel and event.kernel))
        chosen.append(Event(name, attr, event.group))
    return chosen, list(dict.fromkeys(notes))


def _without_pmu(attr: Attr, code: int) -> bool:
    """Whether an event was refused with ``code`` because nothing counts it here, which no permission changes."""
    if code in (errno.EACCES, errno.EPERM):  # is checked first; user code of one's own needs none
        own = Attr.from_buffer_copy(attr)
        own.exclude_user, own.exclude_kernel, own.exclude_hv, own.exclude_callchain_kernel = 0, 1, 1, 1
        try:
            os.close(open_event(own, pid=0, cpu=procfs.online_cpus()[0]))
        except InsituError as error:
            code = refusal(error)
    return code in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP)


def _never_seen(event: NamedEvent, *, asked: bool) -> InsituError:
    """The refusal of an event of the kernel's where its code is excluded, as ``asked`` or for lack of permission."""
    what = f"{event.name} happens in the kernel"
    if asked:
        return InsituError(f"{what} only", remedy="leave out :u or --user", status=2)
    level = procfs.sysctl("kernel.perf_event_paranoid")
    return InsituError(
        f"{what}, which this user may not record (kernel.perf_event_paranoid is {level})",
        remedy="run as root or with CAP_PERFMON, or: sysctl kernel.perf_event_paranoid=1",
    )


def dummy_event(*, mappings: bool = True) -> Event:
    """PERF_COUNT_SW_DUMMY: counts nothing, but delivers records of mappings, names, forks and exits."""
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
        mmap=mappings,
        mmap2=mappings,
        comm=1,
        comm_exec=1,
        task=1,
        build_id=mappings,
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


def _attr(event: NamedEvent, sample_type: Sample, stack_bytes: int) -> Attr:
    attr = event.attr()  # addresses in this host's guests, which it excludes, cannot be resolved here
    attr.sample_type = sample_type
    attr.read_format = ReadFormat.ID | ReadFormat.LOST
    attr.sample_id_all = attr.use_clockid = attr.watermark = 1
    attr.clockid = time.CLOCK_MONOTONIC
    # Unlike cycles, a timer also fires on an idle CPU; a CPU profile does not want those samples.
    attr.exclude_idle |= event.type == Type.SOFTWARE and not event.is_counted
    if sample_type & Sample.REGS_USER:
        machine = os.uname().machine
        if machine not in _USER_REGISTERS:
            raise InsituError(f"--stacks dwarf is not supported on {machine}", remedy="use --stacks fp")
        attr.sample_regs_user = _USER_REGISTERS[machine]
        attr.sample_stack_user = stack_bytes
    return attr


def _fit(attr: Attr, notes: list[str]) -> None:
    """Drop what this kernel does not support or this user may not use, until the event opens."""
    newer = [_LOST_SINCE_6_0, _BUILD_ID_SINCE_5_12]
    while True:
        try:
            os.close(open_event(attr, pid=0, cpu=procfs.online_cpus()[0]))
            return
        except InsituError as error:
            code = refusal(error)
            if code == errno.EINVAL and newer and not (attr.freq and attr.sample_period > _highest_frequency()):
                if newer.pop(0) == _LOST_SINCE_6_0:
                    attr.read_format = ReadFormat.ID
                else:
                    attr.build_id = 0
            elif code in (errno.EACCES, errno.EPERM) and not attr.exclude_kernel and not attr.exclude_user:
                level = procfs.sysctl("kernel.perf_event_paranoid")
                notes.append(f"kernel samples excluded (perf_event_paranoid={level}, without CAP_PERFMON)")
                attr.exclude_kernel = attr.exclude_hv = attr.exclude_callchain_kernel = 1
            else:
                raise


def _highest_frequency() -> int:
    return int(procfs.sysctl("kernel.perf_event_max_sample_rate") or 1 << 62)
