"""Can other processes, physical memory and kernel dumps be looked into here?"""

import ctypes
import mmap
import os
import shutil
from pathlib import Path
from typing import Final

from insitu.capabilities.result import Answer, Probe, has_capability, no, opened, partly, yes
from insitu.kernel import procfs
from insitu.kernel.syscalls import syscall

__all__ = ["PROBES"]

_UFFD_USER_MODE_ONLY: Final = 1  # include/uapi/linux/userfaultfd.h
_PFN_BITS: Final = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst


def _other_processes() -> Answer:
    if has_capability("SYS_PTRACE"):
        return yes("CAP_SYS_PTRACE")
    scope = procfs.sysctl("kernel.yama.ptrace_scope") or "0"
    if scope == "0":
        return partly("processes of this user only", "run as root")
    return partly(
        f"children of the tool only (kernel.yama.ptrace_scope is {scope})",
        "run as root, or: sysctl kernel.yama.ptrace_scope=0",
    )


def _physical_pages() -> Answer:
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
        return partly("which pages are present, but not where", "run as root (CAP_SYS_ADMIN)")
    if not os.access("/proc/kpageflags", os.R_OK):
        return partly("frame numbers, but no flags of frames", "a kernel with CONFIG_PROC_PAGE_MONITOR, as root")
    return yes("frame numbers and flags")


def _live_kernel() -> Answer:
    if os.access("/proc/kcore", os.R_OK):
        return yes("/proc/kcore")
    if Path("/proc/kcore").exists():
        return no("/proc/kcore: permission denied", "run as root")
    return no("no /proc/kcore", "a kernel with CONFIG_PROC_KCORE, or a guest: insitu lab")


def _userfaultfd() -> Answer:
    return opened(
        lambda: syscall("userfaultfd", os.O_CLOEXEC | _UFFD_USER_MODE_ONLY),
        remedy="sysctl vm.unprivileged_userfaultfd=1, on a kernel with CONFIG_USERFAULTFD",
    )


def _cgroups() -> Answer:
    mounts = (procfs.text("/proc/self/mounts") or "").splitlines()
    places = [words[1] for words in map(str.split, mounts) if words[2] == "cgroup2"]
    if not places:
        return no("cgroup v2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    controllers = procfs.text(f"{places[0]}/cgroup.controllers") or ""
    if not controllers:
        return partly(f"{places[0]}, without controllers", "boot with systemd.unified_cgroup_hierarchy=1")
    return yes(f"{places[0]}: {controllers}")


def _numa() -> Answer:
    nodes = procfs.cpu_list(procfs.text("/sys/devices/system/node/online") or "0")
    if len(nodes) > 1:
        return yes(f"{len(nodes)} nodes")
    return partly("one node: nothing to compare", "a guest with several: insitu lab run --numa 2")


def _gdb() -> Answer:
    found = shutil.which("gdb")
    return yes(found) if found else no("gdb is not installed", "apt-get install gdb")


def _sysrq() -> Answer:
    value = procfs.sysctl("kernel.sysrq")
    if value is None:
        return no("this kernel has no sysrq", "a kernel with CONFIG_MAGIC_SYSRQ, or a guest: insitu lab")
    if not os.access("/proc/sysrq-trigger", os.W_OK):
        return no("/proc/sysrq-trigger is not writable", "run as root")
    return yes(f"kernel.sysrq is {value}; root may do all through /proc/sysrq-trigger")


def _crash_dumps() -> Answer:
    dumps = sorted(place for place in ("/var/crash", "/proc/vmcore") if Path(place).exists())
    if procfs.text("/sys/kernel/kexec_crash_loaded") == "1":
        return yes("a crash kernel is loaded; dumps: " + (", ".join(dumps) or "none yet"))
    return no(
        "no crash kernel is loaded: a panic leaves no dump",
        "apt-get install kdump-tools, and boot with crashkernel=256M",
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("other processes", _other_processes),
    ("physical pages", _physical_pages),
    ("live kernel memory", _live_kernel),
    ("page fault handling", _userfaultfd),
    ("control groups", _cgroups),
    ("NUMA", _numa),
    ("debugger", _gdb),
    ("sysrq", _sysrq),
    ("crash dumps", _crash_dumps),
)
