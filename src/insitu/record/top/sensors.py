"""Temperatures: the hottest sensor's, and each CPU's where a sensor says of which core or package it is.

Sources: Documentation/hwmon/coretemp.rst and k10temp.rst, Documentation/hwmon/sysfs-interface.rst and
Documentation/driver-api/thermal/sysfs-api.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from insitu.kernel import procfs, topology

__all__ = ["Sensors"]

_MOST_SENSORS: Final = 1024
_INPUT: Final = re.compile(r"temp\d{1,4}_input")
_DEVICE: Final = re.compile(r"coretemp\.(\d{1,4})")
_AMD: Final = {"Tctl": 0, "Tdie": 1}  # of a package; the second without the offset of the first
_LEAST, _MOST = -100.0, 200.0  # degrees: others are what a broken sensor says


class _Sensor(NamedTuple):
    """``cpus`` are those whose temperature it is, ``rank`` how exactly: the highest is taken."""

    fd: int
    cpus: Sequence[int] = ()
    rank: int = 0


class Sensors:
    """The open sensors. Use: read(); close()."""

    def __init__(self, cpus: Sequence[int], sys: str = "/sys") -> None:
        self._open_files = ExitStack()
        self._sensors: list[_Sensor] = []
        for path, of_cpus, rank in _found(cpus, sys):
            with suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._open_files.callback(os.close, fd)
                self._sensors.append(_Sensor(fd, of_cpus, rank))
            if len(self._sensors) == _MOST_SENSORS:
                break

    def read(self) -> tuple[float | None, dict[int, float]]:
        """Returns the hottest sensor's temperature (None without any), and those of CPUs, in degrees Celsius."""
        hottest: float | None = None
        ranked: dict[int, tuple[int, float]] = {}
        for sensor in self._sensors:
            with suppress(OSError, ValueError):
                degrees = int(os.pread(sensor.fd, 32, 0)) / 1000
                if not _LEAST < degrees < _MOST:
                    continue
                hottest = degrees if hottest is None else max(hottest, degrees)
                for cpu in sensor.cpus:
                    ranked[cpu] = max(ranked.get(cpu, (-1, 0.0)), (sensor.rank, degrees))
        return hottest, {cpu: degrees for cpu, (_, degrees) in sorted(ranked.items())}

    def close(self) -> None:
        """Close all. Idempotent."""
        self._open_files.close()


def _found(cpus: Sequence[int], sys: str) -> Iterator[tuple[str, Sequence[int], int]]:
    """Path, CPUs and rank of each sensor."""
    cores = {cpu: topology.core_of(cpu, f"{sys}/devices/system") for cpu in cpus}
    for device in _listed(f"{sys}/class/hwmon"):
        home = f"{sys}/class/hwmon/{device}"
        chip = procfs.text(f"{home}/name") or ""
        names = _listed(home)
        inputs = [name for name in names if _INPUT.fullmatch(name)]
        labels = {name: procfs.text(f"{home}/{name.removesuffix('_input')}_label") or "" for name in inputs}
        package = _package(home, labels.values())
        for name, label in labels.items():
            of_cpus: Sequence[int] = ()
            rank = 0
            kind, _, number = label.rpartition(" ")
            if chip == "coretemp" and number.isdecimal():
                rank = int(kind == "Core")
                wanted = (package, int(number)) if rank else (int(number), -1)
                of_cpus = [cpu for cpu, core in cores.items() if wanted in (core, (core[0], -1))]
            elif chip in ("k10temp", "zenpower") and label in _AMD:
                rank = _AMD[label]
                local = procfs.text(f"{home}/device/local_cpulist")
                of_cpus = [cpu for cpu in procfs.cpu_list(local) if cpu in cores] if local else list(cores)
            yield f"{home}/{name}", of_cpus, rank
    for zone in _listed(f"{sys}/class/thermal"):
        if zone.startswith("thermal_zone"):
            yield f"{sys}/class/thermal/{zone}/temp", (), 0


def _package(home: str, labels: Iterable[str]) -> int:
    """The package whose cores a coretemp device measures."""
    for label in labels:
        if match := re.fullmatch(r"(?:Package|Physical) id (\d{1,4})", label):
            return int(match[1])
    with suppress(OSError):
        if match := _DEVICE.search(os.path.realpath(f"{home}/device")):
            return int(match[1])
    return 0


def _listed(directory: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))  # noqa: PTH208
    return []
