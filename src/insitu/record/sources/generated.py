"""A script of insitu's own, as a source: its text is made when it is opened, and what it prints goes nowhere."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from insitu.errors import InsituError
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

    def map(self, name: str) -> Map:
        """Returns one of the script's maps."""
        return self.runtime.loaded.maps[self.runtime.compiled.layout.number(name)]

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if self._opened:
            super().close()
