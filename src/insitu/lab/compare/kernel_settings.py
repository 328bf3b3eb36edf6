"""The settings of two kernels (configuration, command line, sysctl), and their differences by likely relevance."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from insitu.lab.guests.guest import Guest
from insitu.lab.kernels.kernel import Kernel

__all__ = ["Difference", "differences", "read_settings"]

# By relevance: what makes every system call or allocation slower, then scheduling, memory and the rest.
_RELEVANCE: Final = (
    r"KASAN|KCSAN|KMSAN|UBSAN|LOCKDEP|PROVE_LOCKING|DEBUG_(PAGEALLOC|VM|LIST|OBJECTS|LOCK)|SLUB_DEBUG_ON|GCOV|KCOV",
    r"MITIGATION|RETPOLINE|PAGE_TABLE_ISOLATION|\bPTI\b|SLS|SRSO|UNRET|IBPB|IBRS|RETHUNK|mitigations|vulnerabilities",
    r"PREEMPT|^CONFIG_HZ|NO_HZ|SCHED|kernel/sched|CFS|EEVDF|RCU",
    r"INIT_ON_(ALLOC|FREE)|INIT_STACK|HARDENED|STACKPROTECTOR|RANDOMIZE|FORTIFY|VMAP_STACK|KFENCE|SLAB|SLUB",
    r"TRANSPARENT_HUGEPAGE|NUMA|COMPACTION|MEMCG|LRU_GEN|SWAP|ZSWAP|^vm/|PAGE_",
    r"FTRACE|FUNCTION_TRACER|BPF|AUDIT|SECURITY|SECCOMP|CGROUP",
    r"^net/|^fs/|^kernel/|BLK|EXT4|OVERLAY|9P|VIRTIO",
)

# Capabilities of an architecture or a compiler, and drivers of devices that no guest has, hardly matter.
_IRRELEVANT: Final = re.compile(
    r"CONFIG_(ARCH_(HAS|HAVE|WANT|SUPPORTS|USE|ENABLE|MAY)|HAVE_|NEED_|CC_|AS_|LD_|GCC|CLANG|RUST|PAHOLE|DRM|SND|USB|MEDIA)"
)

# Options that were renamed in 6.9 (arch/x86/Kconfig: all CPU mitigations got one prefix).
_FORMER_NAMES: Final = {
    "CONFIG_MITIGATION_CALL_DEPTH_TRACKING": "CONFIG_CALL_DEPTH_TRACKING",
    "CONFIG_MITIGATION_GDS_FORCE": "CONFIG_GDS_FORCE_MITIGATION",
    "CONFIG_MITIGATION_IBPB_ENTRY": "CONFIG_CPU_IBPB_ENTRY",
    "CONFIG_MITIGATION_IBRS_ENTRY": "CONFIG_CPU_IBRS_ENTRY",
    "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION": "CONFIG_PAGE_TABLE_ISOLATION",
    "CONFIG_MITIGATION_RETHUNK": "CONFIG_RETHUNK",
    "CONFIG_MITIGATION_RETPOLINE": "CONFIG_RETPOLINE",
    "CONFIG_MITIGATION_SLS": "CONFIG_SLS",
    "CONFIG_MITIGATION_SRSO": "CONFIG_CPU_SRSO",
    "CONFIG_MITIGATION_UNRET_ENTRY": "CONFIG_CPU_UNRET_ENTRY",
    "CONFIG_CPU_MITIGATIONS": "CONFIG_SPECULATION_MITIGATIONS",
}

# These differ from boot to boot, or repeat the version.
_UNSTEADY: Final = re.compile(
    r"kernel/(random/|ns_last_pid|version|osrelease|pty/nr|hostname|sched_domain)|fs/(dentry-state|file-nr|inode-)"
    r"|CC_VERSION|_VERSION\b|VERSION_TEXT|BUILD_SALT|LOCALVERSION|fs/aio-nr|vm/(user|admin)_reserve_kbytes|kernel/cad_pid|vm/stat_refresh"
)

_READ_SYSCTL: Final = (
    "cat /proc/cmdline; cd /proc/sys && grep -rs '' . 2>/dev/null; "
    "cd /sys/devices/system/cpu && grep -s '' vulnerabilities/*"
)


@dataclass(frozen=True)
class Difference:
    """One setting that differs; the value is empty on a side that does not have it."""

    setting: str
    first: str
    second: str


def read_settings(guest: Guest) -> dict[str, str]:
    """A guest kernel's configuration (CONFIG_*), command line words, sysctl (names with slashes) and mitigations."""
    settings = _configuration(guest.kernel)
    lines = guest.run(["sh", "-c", _READ_SYSCTL]).stdout.decode(errors="replace").splitlines()
    for word in lines[0].split() if lines else ():
        name, _, value = word.partition("=")
        settings[f"command line {name}"] = value or "present"
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            settings.setdefault(name.removeprefix("./"), " ".join(value.split())[:200])
    return settings


def _configuration(kernel: Kernel) -> dict[str, str]:
    """CONFIG_ options, renamed ones under their former names; "n" if an option is not set."""
    settings = {f"CONFIG_{name}": value for name, value in kernel.options.items()}
    if kernel.config is not None and kernel.config.exists():
        unset = re.findall(r"^# (CONFIG_\w+) is not set", kernel.config.read_text(errors="replace"), re.MULTILINE)
        settings |= dict.fromkeys(unset, "n")
    return {_FORMER_NAMES.get(name, name): value for name, value in settings.items()}


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[Difference]:
    """The settings that differ, the most relevant first."""
    found = [
        Difference(name, first.get(name, ""), second.get(name, ""))
        for name in {*first, *second}
        if _value(first, name) != _value(second, name) and not _UNSTEADY.search(name)
    ]
    return sorted(found, key=_rank)


def _value(settings: Mapping[str, str], name: str) -> str:
    # An option that is off equals one that the kernel does not have.
    value = settings.get(name, "")
    return "" if value == "n" and name.startswith("CONFIG_") else value


def _rank(difference: Difference) -> tuple[int, bool, str]:
    """The command line first, then by relevance; of equal ones, those that both kernels have."""
    name = difference.setting
    if name.startswith("command line"):
        return -1, False, name
    relevance = len(_RELEVANCE)
    if not _IRRELEVANT.match(name):
        relevance = next((rank for rank, pattern in enumerate(_RELEVANCE) if re.search(pattern, name)), relevance)
    return relevance, not (difference.first and difference.second), name
