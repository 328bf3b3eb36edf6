"""begin, end and self:signal:NAME: probes that the runtime sets off itself, by running their program once."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from insitu.kernel import bpf
from insitu.kernel.bpf_abi import ProgramType
from insitu.probe.providers.base import Argument, AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.matching import missing, parts, select

__all__ = ["PROVIDERS", "Run"]

_SIGNALS = [each.name for each in signal.Signals]


class Run:
    """An attachment to nothing: run() runs the program in the calling thread, whose pid and comm it sees."""

    def __init__(self, program_fd: int) -> None:
        self._program_fd = program_fd

    def run(self) -> bytes:
        """Run the program once. :raises BpfError: on kernels before 5.10."""
        bpf.run_raw_tracepoint(self._program_fd)
        return b""

    def close(self) -> None:
        """Nothing to detach: the caller owns the program."""


class Own:
    """What all of these have in common: a raw tracepoint program that is attached to no tracepoint."""

    traits = Traits(run_by_us=True, finite=True)

    def __init__(self, *names: str) -> None:
        self.names = names

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        parts(spec, spec.kind, 0, 0)
        # Scripts compare `probe` with what they wrote: BEGIN or begin.
        return [AttachPoint(self.names[0], spec.kind)]

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        return None

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return ProgramKind(ProgramType.RAW_TRACEPOINT, "none")

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Run:
        return Run(program_fd)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        return [] if pattern.parts else [AttachPoint(self.names[0], self.names[0])]


class Signal(Own):
    """self:signal:SIGUSR1: the runtime catches the signal (``function``) and runs the program."""

    traits = Traits(run_by_us=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        what, name = parts(spec, "self:signal:NAME", 2, 2)
        if what != "signal":
            raise missing("event of insitu itself,", what, ["signal"], "self:signal:NAME is the only one")
        full = name if name.startswith("SIG") else f"SIG{name}"
        if full not in _SIGNALS:
            raise missing("signal", name, _SIGNALS)
        return [AttachPoint("self", f"self:signal:{full}", target="signal", function=full)]

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        what, name = (*pattern.parts, "*", "*")[:2]
        names = select(name, _SIGNALS) if select(what, ["signal"]) else []
        return [AttachPoint("self", f"self:signal:{each}", function=each) for each in names]


PROVIDERS = (Own("begin", "BEGIN"), Own("end", "END"), Signal("self"))
