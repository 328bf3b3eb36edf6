"""Compiling scripts in tests: probes that need nothing of the kernel."""

from insitu.probe.compile import Compiled, compile_script
from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.providers.base import Context
from insitu.probe.source import Source


class NoKernel(Context):
    """A kernel that describes no types."""

    @property
    def btf(self):  # type: ignore[no-untyped-def,override]
        from insitu.errors import InsituError

        raise InsituError("no BTF here")


def checked(text: str, *parameters: str) -> Unit:
    """A script after all passes."""
    return run_passes(Unit(Source(text), Options(parameters=list(parameters)), NoKernel()))


def compiled(text: str, *parameters: str, events: str = "record") -> Compiled:
    """A script compiled; ``events`` is what its emit() does."""
    return compile_script(Source(text), Options(parameters=list(parameters), events=events), NoKernel())
