"""Which capabilities each use of a command needs: for `insitu doctor` and docs/security.md, and tried in tests."""

import os
from typing import Any, Final, NamedTuple

from insitu.capabilities.result import Probe, Result, asked_once, has_capability, no, yes
from insitu.kernel import procfs

__all__ = ["NEEDS", "PROBES", "Need", "missing"]


class Need(NamedTuple):
    """What it takes to use a command in some way.

    ``capabilities`` are names without CAP_; none is needed where each of ``sysctls`` is at most the value beside it.
    DAC_OVERRIDE is not needed by whoever may write to one of ``paths``.
    """

    use: str
    capabilities: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, int], ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def instead(self) -> str:
        """The sysctls as sysctl(8) takes them; empty without any."""
        return " ".join(f"{name}={most}" for name, most in self.sysctls)


_PARANOID: Final = "kernel.perf_event_paranoid"
_TRACEFS: Final = "/sys/kernel/tracing/events"
_INSTANCES: Final = ("/sys/kernel/tracing/instances",)
_DYNAMIC_DEBUG: Final = ("/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control")

NEEDS: Final = (
    Need("report and all that read a session"),
    Need("import, export"),
    Need("profile of own programs", ("PERFMON",), ((_PARANOID, 2),)),
    Need("profile, kernel code too", ("PERFMON",), ((_PARANOID, 1),)),
    Need("profile of other users' processes", ("PERFMON",)),
    Need("profile -a", ("PERFMON",), ((_PARANOID, 0),)),
    Need("names of kernel functions", ("SYSLOG",), ((_PARANOID, 1), ("kernel.kptr_restrict", 0))),
    Need("profile --off-cpu", ("BPF", "PERFMON", "DAC_READ_SEARCH")),
    Need("trace, but no tracepoints", ("BPF", "PERFMON")),
    Need("trace, tracepoints too", ("BPF", "PERFMON", "DAC_READ_SEARCH")),
    Need("events", ("DAC_OVERRIDE",), paths=_INSTANCES),
    Need("calls of kernel functions", ("DAC_OVERRIDE", "SYSLOG"), paths=_INSTANCES),
    Need("latency, but for stack", ("DAC_OVERRIDE",), paths=_INSTANCES),
    Need("dyndbg", ("DAC_OVERRIDE", "SYSLOG"), paths=_DYNAMIC_DEBUG),
    Need("delays", ("NET_ADMIN",)),
)
"""In the order to show them."""


def missing(need: Need) -> tuple[str, ...]:
    """The capabilities, with CAP_, that this process lacks for it; empty where it can be done."""
    if need.sysctls and all(_at_most(name, most) for name, most in need.sysctls):
        return ()
    return tuple(f"CAP_{name}" for name in need.capabilities if not (has_capability(name) or _spared(name, need)))


def _at_most(name: str, most: int) -> bool:
    try:
        return int(procfs.sysctl(name) or "") <= most
    except ValueError:
        return False


def _spared(capability: str, need: Need) -> bool:
    """Whether something else stands for a capability."""
    if capability == "DAC_OVERRIDE":
        return any(os.access(path, os.W_OK) for path in need.paths)
    if capability == "DAC_READ_SEARCH":
        return os.access(_TRACEFS, os.R_OK | os.X_OK)
    # Before Linux 5.8 the only one for both, and still as good.
    return capability in ("BPF", "PERFMON") and has_capability("SYS_ADMIN")


def _probe(need: Need) -> Probe:
    def question() -> Result[Any]:
        lacking = missing(need)
        if not lacking:
            return yes()
        return no(
            f"{', '.join(lacking)} missing", "run as root" + (f", or: sysctl {need.instead}" if need.instead else "")
        )

    return asked_once(question)


PROBES: Final[tuple[tuple[str, Probe], ...]] = tuple((need.use, _probe(need)) for need in NEEDS)
