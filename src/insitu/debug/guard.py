"""Run a command with the guard allocator, and explain what it reported."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

from insitu.debug.guard_faults import Fault, explained
from insitu.debug.guard_map_count import raised_map_count
from insitu.debug.guard_program import LIBRARY, WHAT, Settings, environment
from insitu.debug.guard_records import Counts, Records, read_records
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.plurals import plural
from insitu.symbols.preloaded import refuse_unsuitable
from insitu.temporary_directories import TemporaryDirectory

__all__ = ["Guarded", "guard"]

_EVERYTHING = Settings()
_MOST_NAMED = 5


class Guarded(NamedTuple):
    """What a guarded command did. ``status``: its exit status, 128 + n for signal n.

    ``counts``: of each process that has exited or died of a fault. ``notes``: what was not guarded or could not be
    named, as lines for the user.
    """

    status: int
    faults: list[Fault]
    counts: list[Counts]
    notes: list[str]


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    status = subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
    return 128 - status if status < 0 else status


def guard(
    command: Sequence[str],
    settings: Settings = _EVERYTHING,
    *,
    sites: Sequence[str] = (),
    max_map_count: int | None = None,
    run: Callable[[Sequence[str], Mapping[str, str]], int] = _run,
) -> Guarded:
    """Run a command to its end, its heap guarded as ``settings`` say; ``run`` does it, with variables to be added.

    ``sites``: only blocks that these functions allocate, FUNCTION of the program or FILE:FUNCTION.
    ``max_map_count``: vm.max_map_count meanwhile. Raises InsituError where it cannot be run or guarded.
    """
    program = shutil.which(command[0])
    if program is None:
        raise InsituError(f"{command[0]}: command not found", status=127)
    refuse_unsuitable(program, LIBRARY, WHAT)
    with contextlib.ExitStack() as context:
        temporary = TemporaryDirectory(gettempdir(), "insitu-guard-", "")
        context.callback(temporary.remove)
        directory = Path(temporary.path)
        if not os.geteuid():
            # Programs of root that become other users report too: these may add files, neither list nor replace any.
            directory.chmod(0o1733)
        # The program may remove the directory, or put another in its place.
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        context.callback(os.close, opened)
        variables = environment(settings, directory, sites, program)
        context.enter_context(raised_map_count(max_map_count))
        status = run(command, variables)
        running = _running(directory)
        records = read_records(Path(f"/proc/self/fd/{opened}"))
    faults, notes = explained(records.faults, LIBRARY)
    return Guarded(status, faults, records.counts, [*notes, *_unguarded(records), *running])


def _running(directory: Path) -> list[str]:
    """What the command started and left behind in the background, as a note."""
    variable = f"INSITU_GUARD_DIRECTORY={directory}".encode()
    left = []
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            if variable in procfs.environment(pid):
                left.append(f"{procfs.comm(pid).decode(errors='replace')} ({pid})")
    if not left:
        return []
    who = f"{len(left)} processes still run" if len(left) > 1 else "a process still runs"
    shown = ", ".join(left[:_MOST_NAMED]) + (", ..." if len(left) > _MOST_NAMED else "")
    return [f"{who} in the background, not waited for; later faults are not reported: {shown}"]


def _blocks(count: int) -> str:
    return f"{count:,} {plural(count, 'block was', 'blocks were')}"


def _unguarded(records: Records) -> list[str]:
    """What was not guarded, and why."""
    notes = []
    memory = sum(each.no_memory for each in records.counts)
    mappings = sum(each.no_mappings for each in records.counts)
    if memory:
        notes.append(f"{_blocks(memory)} not guarded: --memory was reached (more: --memory SIZE, --sample N)")
    if mappings:
        limit = procfs.sysctl("vm.max_map_count")
        why = f"had no more mappings (vm.max_map_count is {limit}, two are needed for a block; --raise-map-count N, "
        if all(each.guard_pages for each in records.counts if each.no_mappings):
            why = "refused madvise(2) for them: no memory, or a seccomp filter of the program (--mprotect, "
        notes.append(f"{_blocks(mappings)} not guarded: the kernel {why}or --sample N)")
    blocks = sum(each.blocks for each in records.counts)
    if blocks and not memory and not mappings and not any(each.guarded for each in records.counts):
        notes.append(f"none of {blocks:,} blocks was guarded: --size, --site and --sample chose none of them")
    if records.damaged:
        notes.append(f"{records.damaged} reports of processes are incomplete and were left out")
    return notes
