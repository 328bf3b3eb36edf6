"""Can other processes, physical memory and kernel dumps be looked into here?"""

import ctypes
import mmap
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from insitu.capabilities.result import Probe, Result, asked_once, has_capability, no, opened, partly, yes
from insitu.kernel import procfs
from insitu.kernel.syscalls import syscall

__all__ = [
    "PROBES",
    "Cgroups",
    "Numa",
    "PageMap",
    "Ptrace",
    "cgroups",
    "crash_dumps",
    "debugger",
    "live_kernel",
    "numa",
    "other_processes",
    "physical_pages",
    "sysrq",
    "userfaultfd",
]

_UFFD_USER_MODE_ONLY: Final = 1  # include/uapi/linux/userfaultfd.h
_PFN_BITS: Final = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst


class Ptrace(NamedTuple):
    """Which processes can be attached to: "all", "own" (of this user), "children"."""

    scope: str


class PageMap(NamedTuple):
    """Whether /proc/PID/pagemap shows frame numbers, and whether /proc/kpageflags can be read."""

    frames: bool
    flags: bool


class Cgroups(NamedTuple):
    """Where cgroup v2 is mounted, and its controllers."""

    mount: str
    controllers: tuple[str, ...]


class Numa(NamedTuple):
    """The NUMA nodes that are online."""

    nodes: tuple[int, ...]


@asked_once
def other_processes() -> Result[Ptrace]:
    """Which processes can be attached to with ptrace(2), and their memory be read?"""
    if has_capability("SYS_PTRACE"):
        return yes("CAP_SYS_PTRACE", Ptrace("all"))
    scope = procfs.sysctl("kernel.yama.ptrace_scope") or "0"
    if scope == "0":
        return partly("processes of this user only", "run as root", Ptrace("own"))
    return partly(
        f"children of the tool only (kernel.yama.ptrace_scope={scope})",
        "run as root, or: sysctl kernel.yama.ptrace_scope=0",
        Ptrace("children"),
    )


@asked_once
def physical_pages() -> Result[PageMap]:
    """Does /proc/PID/pagemap show physical addresses?"""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0] = 1  # a page has no frame before it is written
    held = ctypes.c_char.from_buffer(page)
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            file.seek(ctypes.addressof(held) // mmap.PAGESIZE * 8)
            entry = int.from_bytes(file.read(8), "little")
    finally:
        del held
        page.close()
    if not entry & _PFN_BITS:
        return partly("which pages are present, but not where", "run as root (CAP_SYS_ADMIN)", PageMap(False, False))
    if not os.access("/proc/kpageflags", os.R_OK):
        remedy = "a kernel with CONFIG_PROC_PAGE_MONITOR, as root"
        return partly("frame numbers, but no flags of frames", remedy, PageMap(True, False))
    return yes("frame numbers and flags", PageMap(True, True))


@asked_once
def live_kernel() -> Result[None]:
    """Can the running kernel's memory be read?"""
    if os.access("/proc/kcore", os.R_OK):
        return yes("/proc/kcore")
    if Path("/proc/kcore").exists():
        return no("/proc/kcore: permission denied", "run as root")
    return no("no /proc/kcore", "a kernel with CONFIG_PROC_KCORE, or a guest: insitu lab")


@asked_once
def userfaultfd() -> Result[None]:
    """Can page faults be handled in user space?"""
    return opened(
        lambda: syscall("userfaultfd", os.O_CLOEXEC | _UFFD_USER_MODE_ONLY),
        remedy="sysctl vm.unprivileged_userfaultfd=1, on a kernel with CONFIG_USERFAULTFD",
    )


@asked_once
def cgroups() -> Result[Cgroups]:
    """Is cgroup v2 mounted, and with which controllers?"""
    mounts = (procfs.text("/proc/self/mounts") or "").splitlines()
    mount = next((words[1] for words in map(str.split, mounts) if words[2] == "cgroup2"), "")
    if not mount:
        return no("cgroup v2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    controllers = tuple((procfs.text(f"{mount}/cgroup.controllers") or "").split())
    if not controllers:
        remedy = "boot with systemd.unified_cgroup_hierarchy=1"
        return partly(f"{mount}, without controllers", remedy, Cgroups(mount, ()))
    return yes(f"{mount}: {' '.join(controllers)}", Cgroups(mount, controllers))


@asked_once
def numa() -> Result[Numa]:
    """Is there more than one NUMA node?"""
    nodes = tuple(procfs.cpu_list(procfs.text("/sys/devices/system/node/online") or "0"))
    if len(nodes) > 1:
        return yes(f"{len(nodes)} nodes", Numa(nodes))
    return partly("single NUMA node", "a guest with several: insitu lab run --numa 2", Numa(nodes))


@asked_once
def debugger() -> Result[None]:
    """Is gdb installed?"""
    found = shutil.which("gdb")
    return yes(found) if found else no("gdb is not installed", "apt-get install gdb")


@asked_once
def sysrq() -> Result[None]:
    """Can SysRq commands be given?"""
    value = procfs.sysctl("kernel.sysrq")
    if value is None:
        return no("this kernel has no SysRq", "a kernel with CONFIG_MAGIC_SYSRQ, or a guest: insitu lab")
    if not os.access("/proc/sysrq-trigger", os.W_OK):
        return no("/proc/sysrq-trigger is not writable", "run as root")
    return yes(f"kernel.sysrq={value}; /proc/sysrq-trigger takes all commands from root")


@asked_once
def crash_dumps() -> Result[None]:
    """Would a panic leave a dump?"""
    dumps = sorted(path for path in ("/var/crash", "/proc/vmcore") if Path(path).exists())
    if procfs.text("/sys/kernel/kexec_crash_loaded") == "1":
        return yes("a crash kernel is loaded; dumps: " + (", ".join(dumps) or "none yet"))
    return no(
        "no crash kernel is loaded: a panic leaves no dump",
        "apt-get install kdump-tools, and boot with crashkernel=256M",
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("other processes", other_processes),
    ("physical pages", physical_pages),
    ("live kernel memory", live_kernel),
    ("page fault handling", userfaultfd),
    ("cgroups", cgroups),
    ("NUMA", numa),
    ("debugger", debugger),
    ("sysrq", sysrq),
    ("crash dumps", crash_dumps),
)
