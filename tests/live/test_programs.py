"""The built-in programs on this kernel: they compile where their events exist, and print what a test has provoked."""

from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.probe.bpftrace.scripts import Program, built_in, read_script
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.providers.base import Context

from .program_checks import CHECKS, Checked, apart


def _absent(program: Program) -> list[str]:
    """The names of events that this kernel may lack: those that are not in its list of tracepoints."""
    tracefs = Tracefs.open()
    try:
        present = {f"tracepoint:{name}" for name in tracefs.events()}
    finally:
        tracefs.close()
    return [event.rpartition(":")[2] for event in program.events if event not in present]


@pytest.mark.parametrize("events", ["drop", "print"])
@pytest.mark.parametrize("program", built_in(), ids=lambda program: program.name)
def test_a_program_compiles_or_names_the_event_that_this_kernel_lacks(program: Program, events: str) -> None:
    try:
        options = Options(parameters=["1"], events=events)
        assert compile_script(read_script(program.name), options, Context()).programs
    except InsituError as error:
        assert "\n" not in str(error) and any(name in str(error) for name in _absent(program)), error


@pytest.mark.parametrize("name", CHECKS)
def test_a_program_reports_what_was_provoked(name: str, tmp_path: Path) -> None:
    CHECKS[name](Checked(apart, tmp_path))
