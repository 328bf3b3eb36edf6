"""Why a guest failed: a panic, an exit or an OOM kill from its console, a hang from QEMU's monitor and an NMI."""

import contextlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.qmp import Qmp, QmpError

__all__ = ["STOPPED", "CommandTimeoutError", "GuestError", "console_tail", "death", "hang", "oom_kills"]

_STATUS_GUEST_FAILED: Final = 125
_STATUS_TIMEOUT: Final = 124
_MAX_CONSOLE_BYTES: Final = 4 << 20
_NMI_SECONDS: Final = 3.0
_PANIC: Final = re.compile(r"Kernel panic - not syncing: (.*)")
# The first line that a kernel prints of an exception in itself: it names the cause.
_OOPS: Final = re.compile("BUG: |Oops: |general protection fault|divide error|stack segment|invalid opcode")
_OOPS_PANICS: Final = ("Fatal exception", "Attempted to kill ")  # the panics that an exception leads to
_MAX_OOPS_LINES: Final = 60
_MAX_LINES_FROM_OOPS_TO_PANIC: Final = 200
STOPPED: Final = "stopped"
"""A file in the guest's directory: somebody has asked for its end."""
_OOM: Final = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Killed process (\d+) \(([^)]*)\)")
_SIGNALLED: Final = re.compile(r"terminating on signal (\d+)")  # QEMU, in its log
_NOT_MOUNTED: Final = re.compile(r"insitu-lab: (cannot .*)")
# What the kernel prints about the CPU that gets an NMI, from its process to the end of the call trace.
_NMI_TRACE: Final = re.compile(r"^Kernel panic - not syncing: NMI: .*\n((?:.*\n)*? *</TASK>)", re.MULTILINE)
_TIMESTAMP: Final = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ")


class GuestError(InsituError):
    """The guest itself failed, not the command in it.

    ``kind`` is panic, hang or death; ``tail`` are the lines of the console that explain it.
    """

    def __init__(self, kind: str, message: str, tail: list[str], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, status=_STATUS_GUEST_FAILED)
        self.kind = kind
        self.tail = tail
        if tail:
            self.add_note("console:\n" + "\n".join(tail))  # shown in a traceback


class CommandTimeoutError(InsituError):
    """The command in the guest exceeded its timeout; the guest itself responds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the command did not end within {seconds:g} s; the guest itself responds", status=_STATUS_TIMEOUT
        )


def console_tail(console: Path, lines: int = 20) -> list[str]:
    """The last lines of a guest's console, without control characters."""
    return _read(console).splitlines()[-lines:]


def death(console: Path) -> GuestError:
    """Why the guest that wrote this console exited: a panic, a failed mount, a signal, or a power-off inside."""
    text = _read(console)
    tail = text.splitlines()[-20:]
    panic = _PANIC.search(text)
    if panic:
        # The CPU, the process and the call trace follow the message, or stand in the oops before it.
        after = text[panic.start() :].splitlines()[:20]
        cause, oops = "", list[str]()
        if panic[1].startswith(_OOPS_PANICS):
            cause, oops = _oops(text[: panic.start()].splitlines()[-_MAX_LINES_FROM_OOPS_TO_PANIC:])
        message = f"the guest's kernel panicked: {panic[1].strip()}"
        return GuestError("panic", f"{message} ({cause})" if cause else message, [*oops, *after])
    missing = _NOT_MOUNTED.search(text)
    if missing:
        return GuestError("death", f"the guest ended while starting: {missing[1].strip()}", tail)
    if console.with_name(STOPPED).exists():
        return GuestError("death", "the guest was stopped by insitu lab stop", [])
    signalled = _SIGNALLED.search(_read(console.with_name("qemu.log")))
    if signalled:
        return GuestError("death", f"the guest was stopped from outside: QEMU got signal {signalled[1]}", tail)
    return GuestError("death", "the guest ended by itself (a reboot or power-off inside)", tail)


def _oops(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The first exception of a kernel in the lines before its panic: the line that names it, and all of its lines."""
    begin = next((number for number, line in enumerate(lines) if _OOPS.match(line)), None)
    if begin is None:
        return "", []
    return lines[begin].strip(), list(lines[begin : begin + _MAX_OOPS_LINES])


def hang(console: Path, qmp: Qmp | None, seconds: float) -> GuestError:
    """Where a guest that has not responded for ``seconds`` hangs: its CPUs' program counters and a call trace.

    The guest does not survive this: the call trace is what its kernel prints when it panics on an NMI.
    """
    where, trace = "", []
    if qmp is not None:
        with contextlib.suppress(QmpError):
            register = f"{host_architecture().program_counter}="
            words = qmp.human("info registers -a").split()
            at = [word.removeprefix(register) for word in words if word.startswith(register)]
            where = f", its CPUs at {', '.join(at)}"
        with contextlib.suppress(QmpError):
            qmp.execute("inject-nmi")
            trace = _nmi_trace(console)
    return GuestError(
        "hang", f"the guest hangs: no response for {seconds:g} s{where}", trace or console_tail(console)
    )


def _nmi_trace(console: Path) -> list[str]:
    """What the guest's kernel prints about the CPU that got an NMI; empty if nothing comes within three seconds."""
    deadline = time.monotonic() + _NMI_SECONDS
    while time.monotonic() < deadline:
        match = _NMI_TRACE.search(_read(console))
        if match:
            return match[1].splitlines()
        time.sleep(0.05)
    return []


def oom_kills(text: str) -> tuple[str, ...]:
    """The processes that the kernel's OOM killer killed, as "NAME (pid N)", from console text."""
    return tuple(f"{match[2]} (pid {match[1]})" for match in _OOM.finditer(text))


def _read(console: Path) -> str:
    try:
        with console.open("rb") as file:
            file.seek(max(0, console.stat().st_size - _MAX_CONSOLE_BYTES))
            text = file.read().decode(errors="replace").replace("\r", "")
    except OSError:
        return ""
    plain = re.sub(r"\x1b\[[\d;]*[A-Za-z]|[^\n\t\x20-\x7e\xa0-\U0010ffff]", "", text)
    return "\n".join(_TIMESTAMP.sub("", line) for line in plain.splitlines())
