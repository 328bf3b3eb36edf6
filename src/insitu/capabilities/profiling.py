"""Can CPU profiles be recorded here, of what, and with which symbols?"""

import os
import time
from pathlib import Path
from typing import Final

from insitu.capabilities.result import Answer, Probe, no, opened, partly, yes
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Attr, Hardware, ReadFormat, Sample, Software, Type, open_event
from insitu.kernel.perf_ring import Ring
from insitu.symbols import kallsyms

__all__ = ["PROBES"]

_RING_PAGES: Final = 128  # what a recorder asks for on each CPU: 512 KiB


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


def _timer() -> Answer:
    limit = procfs.sysctl("kernel.perf_event_max_sample_rate")
    return opened(lambda: open_event(_attr()), f"up to {limit} Hz")


def _cycles() -> Answer:
    attr = _attr(type=Type.HARDWARE, config=Hardware.CPU_CYCLES)
    answer = opened(lambda: open_event(attr), "hardware cycles")
    if not answer.why.endswith("no such event"):
        return answer
    return no(
        "no performance counters: profiles use the cpu-clock timer",
        "in a virtual machine: let it have a PMU (QEMU: -cpu host,pmu=on; cloud: a metal instance)",
    )


def _kernel_code() -> Answer:
    return opened(lambda: open_event(_attr(exclude_kernel=0)))


def _whole_system() -> Answer:
    return opened(lambda: open_event(_attr(exclude_kernel=0), pid=-1, cpu=procfs.online_cpus()[0]))


def _ring() -> Answer:
    fd = open_event(_attr())
    try:
        Ring(fd, _RING_PAGES).close()
    except InsituError as error:
        return partly(Exception.__str__(error), error.remedy)
    finally:
        os.close(fd)
    return yes(f"{procfs.sysctl('kernel.perf_event_mlock_kb')} KiB for each user and CPU, and the user's ulimit -l")


def _stack_copies() -> Answer:
    if os.uname().machine not in ("x86_64", "aarch64"):
        return no(f"no register table for {os.uname().machine}")
    stacks = Sample.IP | Sample.REGS_USER | Sample.STACK_USER
    return opened(lambda: open_event(_attr(sample_type=stacks, sample_regs_user=1 << 8, sample_stack_user=8192)))


def _build_ids() -> Answer:
    answer = opened(lambda: open_event(_attr(mmap=1, mmap2=1, build_id=1)))
    return answer if answer.why == "" else partly("read from the files afterwards instead", "Linux 5.12")


def _lost_counts() -> Answer:
    answer = opened(lambda: open_event(_attr(read_format=ReadFormat.ID | ReadFormat.LOST)))
    return answer if answer.why == "" else partly("counted from the rings' own records only", "Linux 6.0")


def _kernel_symbols() -> Answer:
    try:
        shown = kallsyms.are_shown()
    except OSError as error:
        return no(f"/proc/kallsyms: {error.strerror}", "a kernel with CONFIG_KALLSYMS")
    if shown:
        return yes("/proc/kallsyms")
    level = procfs.sysctl("kernel.kptr_restrict")
    return no(
        f"addresses are hidden (kernel.kptr_restrict is {level})", "run as root, or: sysctl kernel.kptr_restrict=0"
    )


def _debug_information() -> Answer:
    places = [place for place in ("/usr/lib/debug/.build-id", "/usr/lib/debug/lib") if Path(place).is_dir()]
    if os.environ.get("DEBUGINFOD_URLS"):
        places.append("debuginfod")
    if places:
        return yes(", ".join(places))
    return partly(
        "no separate debug files: functions but no source lines of packaged programs",
        "apt-get install PACKAGE-dbgsym (libc6-dbg for the C library)",
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("timer sampling", _timer),
    ("hardware counters", _cycles),
    ("kernel code", _kernel_code),
    ("whole machine", _whole_system),
    ("ring memory", _ring),
    ("stack copies", _stack_copies),
    ("build ids at mapping", _build_ids),
    ("counts of lost samples", _lost_counts),
    ("kernel symbols", _kernel_symbols),
    ("debug information", _debug_information),
)
