"""The capabilities of insitu.capabilities.needs, which docs/security.md shows, are enough, and each is needed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.capabilities.needs import NEEDS, Need
from insitu.kernel.tracefs import Tracefs

__all__ = ["unprivileged"]

_BUSY = [sys.executable, "-c", "while True: open('/dev/zero', 'rb').read(100)"]
_OWN = ("--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64", "count=200000")
_TRACE = ("trace", "-q", "-e")
_COMMANDS = {
    "report and all that read a session": ("report", "given.folded"),
    "import, export": ("import", "given.folded", "-o", "a.insitu"),
    "profile of own programs": ("profile", "-o", "a.insitu", *_OWN),
    "profile, kernel code too": ("profile", "-o", "a.insitu", *_OWN),
    "profile of other users' processes": ("profile", "-o", "a.insitu", "-d", "0.1", "-p", "BUSY"),
    "profile -a": ("profile", "-o", "a.insitu", "-d", "0.1", "-a"),
    "names of kernel functions": ("profile", "-o", "a.insitu", "-F", "999", *_OWN),
    "profile --off-cpu": ("profile", "-o", "a.insitu", "--off-cpu", "--", "sleep", "0.1"),
    "trace, but no tracepoints": (*_TRACE, 'BEGIN { printf("works\\n"); exit(); }'),
    "trace, tracepoints too": (*_TRACE, 't:sched:sched_switch { printf("works\\n"); exit(); }'),
    "events": ("events", "-q", "-e", "sched:sched_process_exec", "--", "sh", "-c", "true; ls / >/dev/null"),
    "calls of kernel functions": ("calls", "-q", "-f", "vfs_read", "--", "cat", "/etc/hostname"),
    "latency, but for stack": ("latency", "hwlat", "-d", "0.1"),
    "dyndbg": ("dyndbg", "file", "lib/kobject_uevent.c", "+p", "-d", "0.1"),
    "delays": ("delays", "BUSY"),
}
# To be had at all, kernel functions must be in the samples.
_BESIDES = {"names of kernel functions": ("PERFMON",)}
# Here the rest is recorded, and a note names what is missing.
_NOTED = {"profile, kernel code too", "names of kernel functions"}


def _allowed_to_all(need: Need) -> bool:
    """Whether this machine's settings spare the capability."""
    values = [(Path("/proc/sys", name.replace(".", "/")), most) for name, most in need.sysctls]
    return bool(values) and all(int(path.read_text()) <= most for path, most in values)


def _missing(use: str) -> str:
    """What this kernel lacks for a use; guests have it (tests/lab/test_kernel_settings.py)."""
    if use == "dyndbg":
        return "" if Path("/proc/dynamic_debug/control").exists() else "no dynamic debug"
    with closing(Tracefs.open()) as tracefs:
        if use.startswith("calls"):
            return "" if tracefs.functions() else "functions cannot be traced"
        if use.startswith("latency"):
            return "" if "hwlat" in tracefs.tracers() else "no tracer hwlat"
    return ""


def _name(value: Need | str) -> str:
    return value if isinstance(value, str) else value.use


@pytest.fixture
def words(request: pytest.FixtureRequest, unprivileged: Unprivileged) -> Iterator[list[str]]:
    """The arguments for a use; another user's process runs meanwhile."""
    if why := _missing(request.param.use):
        pytest.skip(why)
    (unprivileged.directory / "given.folded").write_text("a;b 1\n")
    (unprivileged.directory / "given.folded").chmod(0o644)
    with subprocess.Popen(_BUSY) as busy:
        yield [str(busy.pid) if word == "BUSY" else word for word in _COMMANDS[request.param.use]]
        busy.kill()


def test_each_use_is_tried() -> None:
    assert set(_COMMANDS) == {need.use for need in NEEDS}


@pytest.mark.parametrize(("words", "need"), [(need, need) for need in NEEDS], indirect=["words"], ids=_name)
def test_a_user_with_exactly_these_capabilities_can(unprivileged: Unprivileged, words: list[str], need: Need) -> None:
    spared = () if _allowed_to_all(need) else need.capabilities
    done = unprivileged((*spared, *_BESIDES.get(need.use, ())), *words)
    assert done.returncode == 0, done.stderr
    assert not any(f"CAP_{name}" in done.stderr for name in need.capabilities if spared)
    expected = {"trace": "works", "events": "sched_process_exec", "calls": "vfs_read"}
    assert expected.get(words[0], "") in done.stdout


@pytest.mark.parametrize(
    ("words", "need", "lacking"),
    [(need, need, name) for need in NEEDS for name in need.capabilities],
    indirect=["words"],
    ids=_name,
)
def test_without_one_of_them_it_is_refused_by_its_name(
    unprivileged: Unprivileged, words: list[str], need: Need, lacking: str
) -> None:
    if _allowed_to_all(need):
        pytest.skip(f"allowed to all here: {need.instead}")
    held = tuple(name for name in need.capabilities if name != lacking)
    done = unprivileged((*held, *_BESIDES.get(need.use, ())), *words)
    assert (done.returncode == 0) == (need.use in _NOTED), done.stderr
    notes = (unprivileged.directory / "a.insitu/session.json").read_text() if need.use in _NOTED else ""
    assert f"CAP_{lacking}" in done.stderr + notes
    assert "Traceback" not in done.stderr


def test_the_doctor_names_what_is_missing_for_each(unprivileged: Unprivileged) -> None:
    done = unprivileged((), "doctor")
    lines = [line for line in done.stdout.splitlines() if line.startswith("commands")]
    assert len(lines) == len(NEEDS)
    for need, line in zip(NEEDS, lines, strict=True):
        assert need.use in line
        refused = bool(need.capabilities) and not _allowed_to_all(need)
        assert line.split()[1] == ("no" if refused else "yes")
        assert all(f"CAP_{name}" in line for name in need.capabilities if refused)
