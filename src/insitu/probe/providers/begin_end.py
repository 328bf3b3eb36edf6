"""begin, end, self:signal:NAME, test and bench: probes that the runtime sets off itself, by running their program."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import ProgramType
from insitu.probe.providers.arguments import Argument
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.matching import missing, parts, select

__all__ = ["PROVIDERS", "Run", "RunOnSignal"]

# The kernel delivers SIGKILL and SIGSTOP to no handler; after the handler of a fault, the fault would happen again.
_NEVER_CAUGHT = ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")
_SIGNALS = [each.name for each in signal.Signals if each.name not in _NEVER_CAUGHT]

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers


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


class RunOnSignal(Run):
    """Runs the program whenever this process gets a signal, besides what the signal did before."""

    def __init__(self, program_fd: int, number: signal.Signals) -> None:
        """:raises InsituError: outside the main thread, to which Python gives all signals."""
        super().__init__(program_fd)
        self._number = number
        try:
            self._before: _Handler = signal.signal(number, self._caught) or signal.SIG_DFL
        except ValueError:
            raise InsituError(f"self:signal:{number.name} works in the main thread only") from None
        self._attached = True

    def _caught(self, number: int, frame: FrameType | None) -> None:
        try:
            if callable(self._before):  # SIGINT ends a trace all the same
                self._before(number, frame)
        finally:
            if self._attached:
                with contextlib.suppress(bpf.BpfError):
                    self.run()

    def close(self) -> None:
        if self._attached:
            self._attached = False
            if signal.getsignal(self._number) == self._caught:
                signal.signal(self._number, self._handler_before())

    def _handler_before(self) -> _Handler:
        """What the signal did before this and all that have been closed meanwhile."""
        owner = getattr(self._before, "__self__", None)
        if isinstance(owner, RunOnSignal) and not owner._attached:
            return owner._handler_before()
        return self._before


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

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> RunOnSignal:
        return RunOnSignal(program_fd, signal.Signals[points[0].function])

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        what, name = (*pattern.parts, "*", "*")[:2]
        names = select(name, _SIGNALS) if select(what, ["signal"]) else []
        return [AttachPoint("self", f"self:signal:{each}", function=each) for each in names]


class Trial(Own):
    """test:NAME and bench:NAME, which are run if they are asked for."""

    traits = Traits(run_by_us=True, finite=True, on_request=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        (name,) = parts(spec, f"{spec.kind}:NAME", 1, 1)
        return [AttachPoint(spec.kind, f"{spec.kind}:{name}", function=name)]

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        return []


PROVIDERS = (Own("begin", "BEGIN"), Own("end", "END"), Signal("self"), Trial("test"), Trial("bench"))
