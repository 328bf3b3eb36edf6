"""How two kernels are set up: configuration, command line and sysctl, and which differences are likely to matter."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from insitu.lab.guests import Guest

__all__ = ["Difference", "differences", "read_settings"]

# Most telling first: what makes every system call or every allocation dearer, then scheduling, memory and the rest.
_RELEVANCE: Final = (
    r"KASAN|KCSAN|KMSAN|UBSAN|LOCKDEP|PROVE_LOCKING|DEBUG_(PAGEALLOC|VM|LIST|OBJECTS|LOCK)|SLUB_DEBUG_ON|GCOV|KCOV",
    r"MITIGATION|RETPOLINE|PAGE_TABLE_ISOLATION|\bPTI\b|SLS|SRSO|UNRET|IBPB|IBRS|RETHUNK|mitigations|vulnerabilities",
    r"PREEMPT|^CONFIG_HZ|NO_HZ|SCHED|kernel/sched|CFS|EEVDF|RCU",
    r"INIT_ON_(ALLOC|FREE)|INIT_STACK|HARDENED|STACKPROTECTOR|RANDOMIZE|FORTIFY|VMAP_STACK|KFENCE|SLAB|SLUB",
    r"TRANSPARENT_HUGEPAGE|NUMA|COMPACTION|MEMCG|LRU_GEN|SWAP|ZSWAP|^vm/|PAGE_",
    r"FTRACE|FUNCTION_TRACER|BPF|AUDIT|SECURITY|SECCOMP|CGROUP",
    r"^net/|^fs/|^kernel/|BLK|EXT4|OVERLAY|9P|VIRTIO",
)

# These change by themselves from one boot to the next, or say what is known already.
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
    """One setting that differs; an empty value says that a side does not have it."""

    setting: str
    first: str
    second: str


def read_settings(guest: Guest) -> dict[str, str]:
    """Configuration (CONFIG_*), command line words, sysctl (slashed names) and mitigations of a guest's kernel."""
    settings = {f"CONFIG_{name}": value for name, value in guest.kernel.options.items()}
    lines = guest.run(["sh", "-c", _READ_SYSCTL]).stdout.decode(errors="replace").splitlines()
    for word in lines[0].split() if lines else ():
        name, _, value = word.partition("=")
        settings[f"command line {name}"] = value or "present"
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            settings.setdefault(name.removeprefix("./"), " ".join(value.split())[:200])
    return settings


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[Difference]:
    """The settings in which two kernels differ, the likely most relevant first."""
    found = [
        Difference(name, first.get(name, ""), second.get(name, ""))
        for name in {*first, *second}
        if first.get(name, "") != second.get(name, "") and not _UNSTEADY.search(name)
    ]
    return sorted(found, key=_rank)


def _rank(difference: Difference) -> tuple[int, str]:
    if difference.setting.startswith("command line"):
        return -1, difference.setting  # somebody typed it
    for rank, pattern in enumerate(_RELEVANCE):
        if re.search(pattern, difference.setting):
            return rank, difference.setting
    return len(_RELEVANCE), difference.setting
