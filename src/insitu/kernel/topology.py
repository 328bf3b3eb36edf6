"""Which core, die, socket and NUMA node each CPU is of (Documentation/admin-guide/cputopology.rst)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, Literal

from insitu.kernel import procfs

__all__ = ["SYSTEM", "Domain", "core_of", "domains"]

Domain = Literal["core", "die", "socket", "node"]
SYSTEM: Final = "/sys/devices/system"


def domains(kind: Domain, cpus: Iterable[int], system: str = SYSTEM) -> dict[int, str]:
    """CPU -> its core, die, socket or node by the name that perf gives it: S0-D0-C1, S0-D0, S0, N0.

    What sysfs does not say is number 0. ``system`` is where sysfs has the machine.
    """
    if kind == "node":
        return {cpu: f"N{_node(cpu, system)}" for cpu in cpus}
    found = {}
    for cpu in cpus:
        socket, die, core = (_number(cpu, name, system) for name in ("physical_package_id", "die_id", "core_id"))
        found[cpu] = "-".join([f"S{socket}", f"D{die}", f"C{core}"][: {"socket": 1, "die": 2, "core": 3}[kind]])
    return found


def core_of(cpu: int, system: str = SYSTEM) -> tuple[int, int]:
    """The socket's number and the core's in it, by which sensors name cores."""
    return _number(cpu, "physical_package_id", system), _number(cpu, "core_id", system)


def _number(cpu: int, name: str, system: str) -> int:
    text = procfs.text(f"{system}/cpu/cpu{cpu}/topology/{name}") or ""
    return int(text) if text.isdecimal() else 0  # -1 is what the kernel does not know


def _node(cpu: int, system: str) -> int:
    try:
        names = os.listdir(f"{system}/cpu/cpu{cpu}")  # noqa: PTH208 - a start of 80 ms has no pathlib
    except OSError:
        return 0
    return next((int(name[4:]) for name in names if re.fullmatch(r"node\d{1,6}", name)), 0)
