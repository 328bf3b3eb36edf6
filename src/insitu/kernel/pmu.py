"""PMUs as sysfs describes them: their events, the fields of their config words, and the CPUs that count for others.

Sources: Documentation/ABI/testing/sysfs-bus-event_source-devices-events and -format, and
Documentation/admin-guide/perf/ for uncore PMUs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.kernel import procfs

__all__ = ["DEVICES", "Pmu", "PmuEvent", "find_pmus", "pmu_names", "pmus_with", "read_pmu"]

DEVICES: Final = "/sys/bus/event_source/devices"

_FIELD: Final = re.compile(r"(config[123]?):(\d{1,2}(?:-\d{1,2})?(?:,\d{1,2}(?:-\d{1,2})?)*)")
_WORDS: Final = ("config", "config1", "config2", "config3")


class PmuEvent(NamedTuple):
    """An event that a PMU offers by name: its terms, and what a count of it stands for."""

    terms: str
    unit: str = ""
    scale: float = 1.0


class Pmu(NamedTuple):
    """One PMU. ``formats``: field -> (config word, its bits, lowest first). ``cpus``: those that count for all the
    others, such as one of each socket; None for a PMU of every CPU."""

    name: str
    type: int
    formats: Mapping[str, tuple[str, Sequence[int]]]
    events: Mapping[str, PmuEvent]
    cpus: tuple[int, ...] | None

    def encoded(self, terms: str, typed: str) -> tuple[dict[str, int], PmuEvent]:
        """The config words for terms such as "event=0x3c,umask=0x1" or "mem-loads,ldlat=30".

        Returns them with the event that is named among the terms, if any. ``typed`` is what an error names.
        Raises InsituError (status 2) for a term that this PMU does not have, and for a value that does not fit.
        """
        words = dict.fromkeys(_WORDS, 0)
        named = PmuEvent("")
        for term in filter(None, terms.split(",")):
            key, equals, value = term.partition("=")
            if not equals and key in self.events:
                named = self.events[key]
                for word, bits in self.encoded(named.terms, typed)[0].items():
                    words[word] |= bits
            else:
                self._set(words, key, value or "1", typed)
        return words, named

    def _set(self, words: dict[str, int], key: str, text: str, typed: str) -> None:
        try:
            value = int(text, 0)
        except ValueError:
            raise InsituError(f"-e {typed}: {key}={text} is not a number", status=2) from None
        word, bits = self.formats.get(key) or (key, range(64))
        if word not in _WORDS:
            known = [*self.events, *self.formats]
            raise InsituError(
                f"-e {typed}: PMU {self.name} has no {key!r}{nearest(key, known)}",
                remedy=f"it has: {', '.join(known)}" if len(known) < 12 else f"see {DEVICES}/{self.name}",
                status=2,
            )
        if not 0 <= value < 1 << len(bits):
            raise InsituError(f"-e {typed}: {key}={text} does not fit in {len(bits)} bits", status=2)
        for place, bit in enumerate(bits):
            mask = 1 << bit
            words[word] = words[word] & ~mask | (value >> place & 1) << bit


@cache
def pmu_names(devices: str = DEVICES) -> tuple[str, ...]:
    """The names of this machine's PMUs, sorted; none where sysfs has no list."""
    return tuple(sorted(_listed(devices)))


@cache
def read_pmu(name: str, devices: str = DEVICES) -> Pmu | None:
    """The PMU of that name; None where there is none."""
    place = f"{devices}/{name}"
    number = procfs.text(f"{place}/type")
    if number is None or not number.isdecimal():
        return None
    formats = {}
    for field in _listed(f"{place}/format"):
        if match := _FIELD.fullmatch(procfs.text(f"{place}/format/{field}") or ""):
            bits = [bit for bit in procfs.cpu_list(match[2]) if bit < 64]  # the same notation: "0-7,32-35"
            formats[field] = (match[1], bits)
    files = _listed(f"{place}/events")
    events = {
        each: PmuEvent(
            procfs.text(f"{place}/events/{each}") or "",
            procfs.text(f"{place}/events/{each}.unit") or "" if f"{each}.unit" in files else "",
            _number(procfs.text(f"{place}/events/{each}.scale")) if f"{each}.scale" in files else 1.0,
        )
        for each in files
        if "." not in each
    }
    cpus = procfs.text(f"{place}/cpumask")
    return Pmu(name, int(number), formats, events, tuple(procfs.cpu_list(cpus)) if cpus else None)


def find_pmus(pattern: str, devices: str = DEVICES) -> list[Pmu]:
    """The PMUs that a name means: that one, all of a kind (uncore_imc: uncore_imc_0, ...), or a pattern's."""
    import fnmatch

    exact = read_pmu(pattern, devices)
    if exact is not None:
        return [exact]
    names = [
        name
        for name in pmu_names(devices)
        if fnmatch.fnmatchcase(name, pattern)
        or any(re.fullmatch(rf"{re.escape(stem)}(_?\d+)?", name) for stem in (pattern, f"uncore_{pattern}"))
    ]
    return [pmu for name in names if (pmu := read_pmu(name, devices)) is not None]


def pmus_with(event: str, devices: str = DEVICES) -> list[Pmu]:
    """The PMUs that have an event of that name."""
    if "/" in event or "." in event:
        return []
    names = [name for name in pmu_names(devices) if os.path.exists(f"{devices}/{name}/events/{event}")]  # noqa: PTH110
    return [pmu for name in names if (pmu := read_pmu(name, devices)) is not None]


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - a start of 80 ms has no pathlib
    except OSError:
        return []


def _number(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 1.0
