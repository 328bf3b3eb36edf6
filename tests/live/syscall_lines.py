"""Lines of system calls of one command, ours by the ptrace engine and strace's, for comparing decoders."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from insitu.record.run import Destination, Request, run
from insitu.record.sources.ptrace import PtraceSource
from insitu.record.sources.syscalls import SyscallsSource
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Event, Exit
from insitu.syscalls.decode import Decoder, call_name
from insitu.syscalls.engine_options import EngineOptions


def trace(
    command: Sequence[str] = (),
    *,
    pids: Sequence[int] = (),
    options: EngineOptions | None = None,
    source_class: type[PtraceSource] | type[SyscallsSource] = PtraceSource,
) -> tuple[list[Event], int]:
    """Returns the events of a command and its children, and its exit status."""
    events: list[Event] = []
    source = source_class(options or EngineOptions(), events.extend)
    outcome = run(Request(command=tuple(command), pids=tuple(pids)), [source], Destination())
    return events, outcome.exit_status


def calls_of(events: Sequence[Event], tid: int | None = None) -> list[Call]:
    """Returns the calls of a thread (None: the first one), in the order in which they were entered."""
    calls: list[Call] = []
    open_call: Enter | None = None
    for event in events:
        if not isinstance(event, Enter | Exit):
            continue
        if tid is None:
            tid = event.tid
        if event.tid != tid:
            continue
        if isinstance(event, Enter):
            if open_call is not None:
                calls.append(Call(open_call))
            open_call = event
        elif open_call is not None:
            calls.append(Call(open_call, event))
            open_call = None
    return calls if open_call is None else [*calls, Call(open_call)]


def lines(events: Sequence[Event], tid: int | None = None, text: TextOptions | None = None) -> list[str]:
    """Returns ``name(arguments) = result`` of each call of a thread (None: the first one)."""
    decoder = Decoder(text)
    found = []
    for call in calls_of(events, tid):
        arguments = ", ".join(piece.text for piece in decoder.arguments(call))
        found.append(f"{call_name(call.enter.abi, call.enter.nr)}({arguments}) = {decoder.result(call)}")
    return found


def our_lines(command: Sequence[str], text: TextOptions | None = None, **options: object) -> list[str]:
    """Returns the lines of a command's first thread. ``options`` are those of EngineOptions."""
    return lines(trace(command, options=EngineOptions(**options))[0], text=text)  # type: ignore[arg-type]


def strace_lines(command: Sequence[str], output: Path, *options: str) -> list[str]:
    """Returns strace's lines of a command's first thread, with the padding before the = taken out.

    ``output`` is a file to write to.
    """
    subprocess.run(["strace", *options, "-o", str(output), "--", *command], check=False, close_fds=False)
    return [re.sub(r"\) +(= (?:\?|-?\d|0x))", r") \1", line) for line in output.read_text("latin-1").splitlines()]
