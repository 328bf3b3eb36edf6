"""The summary of -c: calls counted in the kernel, in maps; nothing is sent for a call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from insitu.probe.aggregations import Histogram
from insitu.probe.output.map_text import percentile
from insitu.probe.runtime.map_content import read_map
from insitu.record.source import Target
from insitu.record.sources.generated import GeneratedSource
from insitu.record.sources.syscalls_summary_script import summary_text
from insitu.record.sources.syscalls_targets import TargetMaps
from insitu.syscalls.call_word import ABI_SHIFT, NUMBER_MASK, abis_of, number_of
from insitu.syscalls.decode import call_name
from insitu.syscalls.engine_options import EngineOptions

__all__ = ["PERCENTILES", "SummaryRow", "SummarySource"]

PERCENTILES: Final = (50, 90, 99)
_HISTOGRAM: Final = Histogram(bits=4)
_IDLE, _HELD = 1, 2


class SummaryRow(NamedTuple):
    """One call's: how often it returned, with how many errors, and how long it took.

    ``system_ns`` is the time that threads were on a CPU in it, ``wall_ns`` all time from entry to return, of which
    ``percentiles_ns`` are (PERCENTILES; exact to 1/16).
    """

    abi: str
    nr: int
    name: str
    calls: int
    errors: int
    system_ns: int
    wall_ns: int
    least_ns: int
    most_ns: int
    percentiles_ns: tuple[int, ...]


class SummarySource(GeneratedSource):
    """Counts the calls of a target."""

    id = "syscalls"

    def __init__(self, options: EngineOptions) -> None:
        """Of the options, ``calls`` counts."""
        super().__init__()
        self._asked = options
        self._target = Target()

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target = target
        self.open_script(summary_text(), target, "cannot count system calls")

    def start(self, directory: Any, start_ns: int) -> None:
        """Attach all probes, then let them know the target."""
        super().start(None, start_ns)
        maps, asked = TargetMaps(self.map), self._asked.calls
        for key, abi, nr in maps.calls():
            if asked is None or (abi, nr) in asked:
                maps.put("@call", key, 1)
        maps.fill(self._target, held=_HELD, thread=lambda pid, tid: _IDLE)

    @property
    def follows(self) -> bool:
        """Whether a task of the target is alive."""
        return not self._target.whole_system and TargetMaps(self.map).any_alive()

    def rows(self) -> Sequence[SummaryRow]:
        """Returns what was counted so far, of every call that has returned."""
        found = {name: self._read(name) for name in ("@wall", "@system", "@least", "@most", "@failed", "@took")}
        abis = abis_of(os.uname().machine)
        rows = []
        for key, cells in found["@took"].items():
            abi = abis[key >> ABI_SHIFT & 3]
            nr = number_of(abi, key & NUMBER_MASK)
            system, wall, least, most = (
                int(found[name].get(key, 0)) for name in ("@system", "@wall", "@least", "@most")
            )
            failed = int(found["@failed"].get(key, 0))
            # The middle of the range that each is in, within what was seen.
            percentiles = tuple(min(max(percentile(_HISTOGRAM, cells, each), least), most) for each in PERCENTILES)
            name = call_name(abi, nr)
            rows.append(SummaryRow(abi, nr, name, sum(cells), failed, system, wall, least, most, percentiles))
        return sorted(rows, key=lambda row: (-row.system_ns, row.name))

    def _read(self, name: str) -> dict[int, Any]:
        layout = self.runtime.compiled.layout
        return {key[0]: value for key, value in read_map(layout.maps[layout.number(name)], self.map(name)).rows}
