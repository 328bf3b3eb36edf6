"""Lines of a command and its children by insitu and by strace(1), each thread's in order, made comparable."""

import difflib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.live.syscall_lines import lines, trace

from insitu.record.sources.syscalls import SyscallsSource
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Enter, Event
from insitu.syscalls.engine_options import EngineOptions

PROGRAMS = Path(__file__).parent / "syscall_programs"
Threads = list[tuple[int, list[str]]]
"""(thread id, lines) of each thread, in order of their first call."""

_ADDRESS = re.compile(r"0x[0-9a-f]{7,16}\b")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \S+ resumed>(.*)$")
_PADDING = re.compile(r"\) +(= (?:\?|-?\d|0x))")


def our_threads(command: Sequence[str], text: TextOptions) -> Threads:
    """Returns our lines, by the ptrace engine."""
    options = EngineOptions(string_limit=text.string_limit, verbose=text.verbose)
    events, _ = trace(command, options=options)
    return threads_of(events, text)


def bpf_threads(command: Sequence[str], text: TextOptions) -> Threads:
    """Returns our lines, by the eBPF engine."""
    options = EngineOptions(string_limit=text.string_limit, verbose=text.verbose)
    events, _ = trace(command, options=options, source_class=SyscallsSource)
    return threads_of(events, text)


def threads_of(events: Sequence[Event], text: TextOptions) -> Threads:
    """Returns the lines of each thread of events."""
    tids = dict.fromkeys(event.tid for event in events if isinstance(event, Enter))
    return [(tid, lines(events, tid, text)) for tid in tids]


def strace_threads(command: Sequence[str], output: Path, options: Sequence[str]) -> Threads:
    """Returns strace's lines. ``output`` is a file to write to."""
    subprocess.run(
        ["strace", "-f", "-o", str(output), *options, "--", *command],
        check=False,
        env=dict(os.environ),  # without what libraries of ours, such as readline, have set
        stderr=subprocess.DEVNULL,  # strace says there what it could not read
        close_fds=False,  # as our launcher does: descriptors have the same numbers
    )
    threads: dict[int, list[str]] = {}
    begun: dict[int, str] = {}
    for line in output.read_text("latin-1").splitlines():
        word, _, text = line.partition(" ")
        tid, text = int(word), text.lstrip()
        found = threads.setdefault(tid, [])
        if text.startswith(("---", "+++")):
            continue
        if text.endswith(_UNFINISHED):
            begun[tid] = text.removesuffix(_UNFINISHED)
            continue
        resumed = _RESUMED.match(text)
        if resumed:
            text = begun.pop(tid) + resumed[1]
        found.append(_PADDING.sub(r") \1", text))
    return list(threads.items())


class _Numbers(dict[str, str]):
    """Numbers for words, in order of their appearance."""

    def number(self, match: re.Match[str]) -> str:
        return self.setdefault(match[0], f"@{len(self)}")


def comparable(threads: Threads, masks: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Returns the lines without what differs from run to run: addresses and thread ids are numbered in order of
    their appearance, and ``masks`` are (pattern, replacement). A line of which a mask leaves nothing is left out.

    Threads are in order of their ids, that in which they were made: which of two makes the first call is chance."""
    threads = sorted(threads)
    tids = {str(tid): f"TID{at}" for at, (tid, _) in enumerate(threads)}
    of_a_thread = re.compile(rf"\b({'|'.join(tids)})\b") if tids else re.compile("(?!)")
    found = []
    for _, each in threads:
        addresses = _Numbers()
        rows = []
        for line in each:
            for pattern, replacement in masks:
                line = re.sub(pattern, replacement, line)
            if not line:
                continue
            line = of_a_thread.sub(lambda match: tids[match[1]], line)
            rows.append(_ADDRESS.sub(addresses.number, line))
        found.append(rows)
    return found


def difference(ours: list[list[str]], peers: list[list[str]]) -> str:
    """Returns where the lines of threads differ, "" where they do not."""
    found = [] if len(ours) == len(peers) else [f"{len(ours)} threads, strace has {len(peers)}"]
    for at, (mine, theirs) in enumerate(zip(ours, peers, strict=False)):
        rows = difflib.unified_diff(theirs, mine, f"strace {at}", f"insitu {at}", n=0, lineterm="")
        found += list(rows)
    return "\n".join(found)


def compare(
    command: Sequence[str],
    output: Path,
    *,
    prepare: Callable[[], object] = lambda: None,
    masks: Sequence[tuple[str, str]] = (),
    threads: int | None = None,
    text: TextOptions | None = None,
    options: Sequence[str] = (),
    run: Callable[[Sequence[str], TextOptions], Threads] = our_threads,
    attempts: int = 4,
) -> str:
    """Returns where our lines and strace's differ. ``prepare`` is called before each run; ``threads``: how many of
    them are compared. ``text`` and strace's ``options`` say the same.

    Two runs of a program with several threads differ at times, as the scheduler has it; what a decoder does wrong
    differs each time. So there are ``attempts``, and one has to find no difference.
    """
    command = ["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *command]
    found = ""
    for _ in range(attempts):
        prepare()
        ours = run(command, text or TextOptions())
        prepare()
        peers = strace_threads(command, output, options)
        found = difference(comparable(ours, masks)[:threads], comparable(peers, masks)[:threads])
        if not found:
            break
    return found


def compiled_program(directory: Path, name: str, *options: str) -> str:
    """Compiles a program of tests/live/syscall_programs into a directory, and returns its path."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    program = directory / name
    subprocess.run([gcc, "-w", "-o", program, PROGRAMS / f"{name}.c", *options], check=True)
    return str(program)
