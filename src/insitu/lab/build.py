"""A small guest kernel from the distribution's source package, with the debugging features asked for built in.

All that a guest does not need is off (``tinyconfig`` and up), and all it needs is built in, so that there are no
modules. Results are cached by source package version and configuration.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.fetch import download, unpack
from insitu.lab.kernel import INDEX, Kernel, fetched_kernels

__all__ = ["FEATURES", "build", "configuration"]

_SPACE: Final = 6 << 30
_TOOLS: Final = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils"}

# What every guest needs, built in: 64 bits, SMP, PCI, virtio, 9p, overlay, a serial console, and to be introspected.
_BASE: Final = """
64BIT SMP NUMA ACPI ACPI_NUMA PCI PCI_MSI HOTPLUG_PCI MULTIUSER BLOCK NET INET UNIX PACKET PRINTK BUG PROC_FS
PROC_SYSCTL SYSFS TMPFS DEVTMPFS TTY SERIAL_8250 SERIAL_8250_CONSOLE BLK_DEV_INITRD BINFMT_ELF BINFMT_SCRIPT
FUTEX EPOLL SIGNALFD TIMERFD EVENTFD AIO POSIX_TIMERS SYSVIPC SHMEM MEMFD_CREATE INOTIFY_USER FILE_LOCKING
ADVISE_SYSCALLS MEMBARRIER RSEQ HIGH_RES_TIMERS NO_HZ_IDLE HYPERVISOR_GUEST PARAVIRT PVH KALLSYMS KALLSYMS_ALL
MODULES CGROUPS VIRTIO_MENU VIRTIO_PCI VIRTIO_CONSOLE VIRTIO_BLK VIRTIO_NET NETDEVICES NET_CORE ETHERNET BLK_DEV
NET_9P NET_9P_VIRTIO NETWORK_FILESYSTEMS 9P_FS OVERLAY_FS FW_CFG_SYSFS CRASH_CORE KEXEC VMGENID UNIX98_PTYS
FTRACE FTRACE_SYSCALLS FUNCTION_TRACER FUNCTION_GRAPH_TRACER DYNAMIC_FTRACE FUNCTION_PROFILER KPROBES
KPROBE_EVENTS UPROBE_EVENTS PERF_EVENTS BPF_SYSCALL BPF_JIT BPF_EVENTS DEBUG_FS DEBUG_KERNEL MAGIC_SYSRQ
UNWINDER_ORC MISC_FILESYSTEMS STACKTRACE HIST_TRIGGERS
"""
_BASE_OFF: Final = ["DEBUG_INFO_NONE", "RANDOMIZE_BASE", "WERROR"]

# What users ask for -> the options it takes.
FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "kgdb": ("KGDB", "KGDB_SERIAL_CONSOLE", "FRAME_POINTER"),
    "irqsoff": ("IRQSOFF_TRACER", "PREEMPT_TRACER", "PREEMPT"),
    "lockdep": ("PROVE_LOCKING", "LOCK_STAT", "DEBUG_LOCKDEP"),
    "kasan": ("KASAN", "KASAN_GENERIC", "KASAN_INLINE"),
    "gcov": ("GCOV_KERNEL", "GCOV_PROFILE_ALL", "CONSTRUCTORS"),
    "debuginfo": ("DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT",),
}


def configuration(features: Sequence[str]) -> str:
    """The configuration fragment on top of tinyconfig. Raises InsituError naming features there are not."""
    unknown = sorted({*features} - {*FEATURES})
    if unknown:
        raise InsituError(f"no feature {', '.join(unknown)}; there are {', '.join(FEATURES)}", status=2)
    options = dict.fromkeys([*_BASE.split(), *(option for name in sorted({*features}) for option in FEATURES[name])])
    lines = [f"CONFIG_{option}=y" for option in options]
    lines += [f"# CONFIG_{option} is not set" for option in _BASE_OFF]
    return "\n".join(lines) + "\n"


def build(
    version: str, features: Sequence[str], jobs: int = 0, report: Callable[[str], None] = lambda line: None
) -> Kernel:
    """A kernel of ``version`` (6.1) with ``features``, built unless the cache has it. Takes minutes to an hour.

    Raises InsituError naming what is missing, or the compiler's first complaint.
    """
    fragment = configuration(features)
    if not re.fullmatch(r"\d+\.\d+", version):
        raise InsituError(f"{version!r} is no version such as 6.1", status=2)
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    missing += [
        package
        for header, package in (("gelf.h", "libelf-dev"), ("openssl/opensslv.h", "libssl-dev"))
        if not Path("/usr/include", header).exists()
    ]
    if missing:
        raise InsituError("building a kernel needs more programs", remedy=f"apt-get install {' '.join(missing)}")
    key = hashlib.sha256(fragment.encode()).hexdigest()[:8]
    name = "-".join([version, "insitu", *sorted({*features})])
    home = cache_directory("kernels") / f"{name}-{key}"
    if not (home / INDEX).exists():
        if shutil.disk_usage(home.parent).free < _SPACE:
            raise InsituError(f"no space: building needs about {_SPACE >> 30} GB in {home.parent}")
        with tempfile.TemporaryDirectory(prefix=".build-", dir=home.parent) as scratch:
            _build_in(Path(scratch), version, name, fragment, jobs or os.cpu_count() or 1, report)
            shutil.rmtree(home, ignore_errors=True)
            (Path(scratch) / "result").rename(home)
    return next(kernel for kernel in fetched_kernels() if kernel.image.parent == home)


def _build_in(
    scratch: Path, version: str, name: str, fragment: str, jobs: int, report: Callable[[str], None]
) -> None:
    report(f"downloading linux-source-{version}")
    archive = download(f"linux-source-{version}", scratch)
    unpack(archive, scratch / "package")
    tarball = next((scratch / "package/usr/src").glob("linux-source-*.tar.xz"))
    report("unpacking the source")
    subprocess.run(["tar", "-xf", tarball, "-C", scratch, "--transform", "s,^[^/]*,source,"], check=True)
    source = scratch / "source"
    (source / "insitu.config").write_text(fragment)
    make = ["make", "-C", str(source), f"-j{jobs}", f"LOCALVERSION=-{name.partition('-')[2]}", "KCFLAGS=-w"]
    _run([*make, "tinyconfig"], scratch)
    _run(["sh", "-c", 'cd "$0" && scripts/kconfig/merge_config.sh -m .config insitu.config', str(source)], scratch)
    _run([*make, "olddefconfig"], scratch)
    _check_kept(fragment, source / ".config")
    report(f"compiling with {jobs} jobs; this takes a while")
    _run([*make, "bzImage"], scratch)
    release = (source / "include/config/kernel.release").read_text().strip()
    result = scratch / "result"
    result.mkdir()
    for file, target in (("arch/x86/boot/bzImage", "vmlinuz"), (".config", "config"), ("vmlinux", "vmlinux-debug")):
        shutil.copy2(source / file, result / target)
    fields = {"name": name, "release": release, "origin": "built", "image": "vmlinuz", "config": "config"}
    (result / INDEX).write_text(json.dumps({**fields, "debuginfo": "vmlinux-debug"}, indent=1))


def _check_kept(fragment: str, config: Path) -> None:
    """Name the options that this version's Kconfig did not accept, rather than build without them."""
    kept = {*config.read_text().splitlines()}
    essential = {f"CONFIG_{option}=y" for options in FEATURES.values() for option in options}
    essential |= {"CONFIG_9P_FS=y", "CONFIG_NET_9P_VIRTIO=y", "CONFIG_OVERLAY_FS=y", "CONFIG_VIRTIO_CONSOLE=y"}
    lost = [line for line in fragment.splitlines() if line in essential and line not in kept]
    if lost:
        raise InsituError(f"this kernel's configuration does not take {', '.join(lost)}")


def _run(words: list[str], scratch: Path) -> None:
    log = scratch / "log"
    with log.open("wb") as file:
        status = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode
    if status:
        lines = log.read_text(errors="replace").splitlines()
        first = next(
            (line for line in lines if re.search(r"error|\*\*\*", line, re.IGNORECASE)), lines[-1] if lines else ""
        )
        raise InsituError(f"building the kernel fails: {first.strip()}")
