"""A script of insitu's own, as a source: its text is made when it is opened, and what it prints goes nowhere."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.probe.compile import Compiled, compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError, Source
from insitu.record.sources.probe import ProbeSource

if TYPE_CHECKING:
    from insitu.kernel.bpf_map import Map
    from insitu.record.source import Target

__all__ = ["GeneratedSource"]


class GeneratedSource(ProbeSource):
    """What recorders with such a script share. They call open_script() where ProbeSource has open()."""

    def __init__(self) -> None:
        self._opened = False

    def open_script(self, text: str, target: Target, cannot: str) -> None:
        """Compile and load the script. Raises InsituError, which begins with ``cannot``, if BPF is not available."""
        script, context = Source(text, self.id), Context()
        try:
            compiled = compile_script(script, Options(), context, cached=True)
        except ScriptError as error:  # the script is ours: what failed is the machine's or the user's
            raise InsituError(f"{cannot}: {error.plain}", remedy=error.remedy) from None
        self.place(compiled)
        super().__init__(
            compiled, script, context, lambda runtime: TextOutput(runtime.loaded, runtime.formatter(), io.BytesIO())
        )
        self._opened = True
        super().open(target)

    def place(self, compiled: Compiled) -> None:
        """Change where the compiled programs are attached. Most scripts name that themselves."""

    def set_target(self, ids: Iterable[int]) -> None:
        """Put processes or threads into the script's map ``@target``."""
        for each in ids:
            self.map("@target").update(struct.pack("<Q", each), struct.pack("<Q", 1))

    def follow_threads(self, pids: Sequence[int]) -> None:
        """Put the threads of processes into ``@target``, once the script follows what these start."""
        # A thread that starts before the one that starts it is known is found the second time.
        for pid in [*pids, *pids]:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                self.set_target(procfs.threads(pid))

    def map(self, name: str) -> Map:
        """Returns one of the script's maps."""
        return self.runtime.loaded.maps[self.runtime.compiled.layout.number(name)]

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if self._opened:
            super().close()
