"""Ticks made by hand, and a sampler that gives them one at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from insitu.record.top.functions import Functions
from insitu.record.top.tick import CpuUse, Disks, History, Machine, Process, Sample, Tick


def process(pid: int, name: str = "prog", **known: Any) -> Process:
    given = {"cpu": 0.0, "wait": 0.0, "off_cpu": 0.0, "calls": 0.0, "rss_bytes": 1 << 20, **known}
    return Process(
        pid=pid, parent=1, start=pid, name=name, state="S", threads=1, read_bytes=0.0, write_bytes=0.0, **given
    )


def machine(cpus: int = 2, **known: Any) -> Machine:
    given = {
        "cpus": {cpu: CpuUse(0.5, 0.4, 0.1, 0.0, 0.0) for cpu in range(cpus)},
        "load": 1.5,
        "running": 3,
        "blocked": 1,
        "switches": 2500.0,
        "forks": 2.0,
        "memory_bytes": 8 << 30,
        "available_bytes": 6 << 30,
        "cache_bytes": 3 << 30,
        "dirty_bytes": 5 << 20,
        "swap_used_bytes": 0,
        "faults": 120.0,
        "major_faults": 1.0,
        "pressure": {"cpu": 0.125, "memory": 0.0, "io": 0.03},
        "disks": Disks(10.0, 20.0, 1 << 20, 2 << 20, 400_000.0),
        "temperature": None,
        "temperatures": {},
        **known,
    }
    return Machine(**given)


def tick(number: int, processes: Sequence[Process] = (), **known: Any) -> Tick:
    given = {
        "time_ns": (1_700_000_000 + 2 * number) * 10**9,
        "dur_s": 2.0,
        "machine": machine(),
        "threads": (),
        "hidden": 0,
        "calls": 12_345.0,
        "block": None,
        "on_cpu": {},
        "off_cpu": {},
        "own_cpu": 0.012,
        **known,
    }
    return Tick(number=number, processes=processes, **given)


class NamedFunctions(Functions):
    """Functions by a table of addresses."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names

    def _named(self, pid: int, address: int) -> Any:
        name = self._names.get(address) or self._names[address + 1]
        return super()._named(pid, address)._replace(function=name, module="/usr/bin/prog", symbolized=True)


class ScriptedSampler:
    """Has what a Sampler has for the screen."""

    def __init__(self, names: Mapping[int, str] = {}) -> None:
        self.history = History(150)
        self.functions: Functions = NamedFunctions(names)
        self.notes: Sequence[str] = ()
        self.has_kernel_counts = True
        self.looked = 0
        self.on_tick: Callable[[Tick], object] = lambda tick: None

    def look_at(self, pid: int) -> None:
        self.looked = pid

    def stop_soon(self) -> None: ...

    def give(self, tick: Tick) -> None:
        self.history.append(tick)
        self.on_tick(tick)


__all__ = ["NamedFunctions", "Sample", "ScriptedSampler", "machine", "process", "tick"]
