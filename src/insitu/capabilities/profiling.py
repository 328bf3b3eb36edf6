"""Can CPU profiles be recorded here, of what, and with which symbols?"""

import errno
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from insitu.capabilities.result import Probe, Result, asked_once, no, opened, partly, yes
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Attr, Hardware, ReadFormat, Sample, Software, Type, open_event
from insitu.kernel.perf_ring import Ring
from insitu.symbols import kallsyms

__all__ = [
    "PROBES",
    "DebugFiles",
    "RingMemory",
    "SampleTypes",
    "Sampling",
    "build_ids",
    "cycles",
    "debug_information",
    "kernel_code",
    "kernel_symbols",
    "lost_counts",
    "ring_memory",
    "sample_types",
    "sampling",
    "stack_copies",
    "whole_system",
]

_RING_PAGES: Final = 128  # what a recorder asks for on each CPU: 512 KiB
_NO_SUCH_EVENT: Final = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP)
_DEFAULT_MAX_STACK: Final = 127  # PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h


class Sampling(NamedTuple):
    """Limits of this kernel: the highest frequency in hertz and the deepest call stack in frames."""

    max_frequency_hz: int
    max_stack: int


class RingMemory(NamedTuple):
    """Bytes of ring buffers that a user may lock on each CPU besides RLIMIT_MEMLOCK."""

    bytes_per_cpu: int


class SampleTypes(NamedTuple):
    """What a sample of a software event may hold here."""

    supported: Sample


class DebugFiles(NamedTuple):
    """Directories of separate debug files, and whether debuginfod servers are named."""

    directories: tuple[str, ...]
    debuginfod: bool


def _attr(**values: int) -> Attr:
    """A harmless sampling event: disabled, and only of user code unless ``values`` say otherwise."""
    defaults = {
        "type": Type.SOFTWARE,
        "config": Software.CPU_CLOCK,
        "sample_period": 99,
        "freq": 1,
        "sample_type": Sample.IP | Sample.TID | Sample.TIME,
        "disabled": 1,
        "exclude_kernel": 1,
        "exclude_hv": 1,
        "use_clockid": 1,
        "clockid": time.CLOCK_MONOTONIC,
    }
    return Attr(**(defaults | values))


def _limit(setting: str, default: int) -> int:
    text = procfs.sysctl(setting) or ""
    return int(text) if text.isdecimal() else default


@asked_once
def sampling() -> Result[Sampling]:
    """Can this user sample its own processes with a timer?"""
    details = Sampling(
        _limit("kernel.perf_event_max_sample_rate", 100_000),
        _limit("kernel.perf_event_max_stack", _DEFAULT_MAX_STACK),
    )
    reason = f"up to {details.max_frequency_hz} Hz, stacks of up to {details.max_stack} frames"
    return opened(lambda: open_event(_attr()), reason, details=details)


@asked_once
def cycles() -> Result[None]:
    """Does the PMU count cycles?"""
    attr = _attr(type=Type.HARDWARE, config=Hardware.CPU_CYCLES)
    result: Result[None] = opened(lambda: open_event(attr), "hardware cycles")
    if result.errno not in _NO_SUCH_EVENT:
        return result
    return no(
        "no PMU (virtual machine?): sampling on cpu-clock",
        "let a virtual machine have a PMU (QEMU: -cpu host,pmu=on; cloud: a metal instance)",
        result.errno,
    )


@asked_once
def kernel_code() -> Result[None]:
    """Can kernel code be sampled?"""
    return opened(lambda: open_event(_attr(exclude_kernel=0)))


@asked_once
def whole_system() -> Result[None]:
    """Can every process be sampled?"""
    return opened(lambda: open_event(_attr(exclude_kernel=0), pid=-1, cpu=procfs.online_cpus()[0]))


@asked_once
def ring_memory() -> Result[RingMemory]:
    """Can a recorder's ring buffers be mapped?"""
    details = RingMemory(_limit("kernel.perf_event_mlock_kb", 0) << 10)
    fd = open_event(_attr())
    try:
        Ring(fd, _RING_PAGES).close()
    except InsituError as error:
        return partly(error.message, error.remedy, details)
    finally:
        os.close(fd)
    return yes(f"{details.bytes_per_cpu >> 10} KiB per user and CPU, and the user's ulimit -l", details)


@asked_once
def sample_types() -> Result[SampleTypes]:
    """Which fields may a sample have? Each is asked for by itself."""
    supported = Sample(0)
    for flag in Sample:
        registers = flag in (Sample.REGS_USER, Sample.REGS_INTR)
        attr = _attr(
            sample_type=Sample.IP | flag,
            sample_regs_user=1 << 8 if registers else 0,
            sample_regs_intr=1 << 8 if registers else 0,
            sample_stack_user=8192 if flag is Sample.STACK_USER else 0,
        )
        if opened(lambda attr=attr: open_event(attr)).available:  # type: ignore[misc]
            supported |= flag
    if not supported & Sample.IP:
        return no("sampling is not possible", details=SampleTypes(supported))
    missing = ", ".join((flag.name or "").lower() for flag in Sample if not supported & flag)
    return yes(f"all but {missing}" if missing else "all", SampleTypes(supported))


@asked_once
def stack_copies() -> Result[None]:
    """Can samples hold a copy of the user stack, for DWARF unwinding?"""
    if os.uname().machine not in ("x86_64", "aarch64"):
        return no(f"no register table for {os.uname().machine}")
    stacks = Sample.IP | Sample.REGS_USER | Sample.STACK_USER
    return opened(lambda: open_event(_attr(sample_type=stacks, sample_regs_user=1 << 8, sample_stack_user=8192)))


@asked_once
def build_ids() -> Result[None]:
    """Do mapping records carry build ids?"""
    result: Result[None] = opened(lambda: open_event(_attr(mmap=1, mmap2=1, build_id=1)))
    return result if result.available else partly("read from the files afterwards instead", "Linux 5.12")


@asked_once
def lost_counts() -> Result[None]:
    """Does the kernel count lost samples of each event?"""
    result: Result[None] = opened(lambda: open_event(_attr(read_format=ReadFormat.ID | ReadFormat.LOST)))
    return result if result.available else partly("counted by the rings' own records only", "Linux 6.0")


@asked_once
def kernel_symbols() -> Result[None]:
    """Does /proc/kallsyms show addresses?"""
    try:
        shown = kallsyms.are_shown()
    except OSError as error:
        return no(f"/proc/kallsyms: {error.strerror}", "a kernel with CONFIG_KALLSYMS", error.errno or 0)
    if shown:
        return yes("/proc/kallsyms")
    settings = ("kernel.kptr_restrict", "kernel.perf_event_paranoid")
    return no(
        f"addresses are hidden ({', '.join(f'{name}={procfs.sysctl(name)}' for name in settings)})",
        kallsyms.remedy(),
    )


@asked_once
def debug_information() -> Result[DebugFiles]:
    """Where can debug information of packaged programs come from?"""
    directories = tuple(d for d in ("/usr/lib/debug/.build-id", "/usr/lib/debug/lib") if Path(d).is_dir())
    details = DebugFiles(directories, bool(os.environ.get("DEBUGINFOD_URLS")))
    sources = [*directories, *["debuginfod"] * details.debuginfod]
    if sources:
        return yes(", ".join(sources), details)
    return partly(
        "no separate debug files: functions but no source lines of packaged programs",
        "apt-get install PACKAGE-dbgsym (libc6-dbg for the C library)",
        details,
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("timer sampling", sampling),
    ("hardware counters", cycles),
    ("kernel code", kernel_code),
    ("whole machine", whole_system),
    ("ring memory", ring_memory),
    ("sample fields", sample_types),
    ("stack copies", stack_copies),
    ("build ids at mapping", build_ids),
    ("counts of lost samples", lost_counts),
    ("kernel symbols", kernel_symbols),
    ("debug information", debug_information),
)
