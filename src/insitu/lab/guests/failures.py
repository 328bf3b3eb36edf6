"""Why a guest failed, told from its console."""

import re
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["CommandTimeoutError", "GuestError", "console_tail", "death", "nmi_trace", "oom_kills"]

_STATUS_GUEST_FAILED: Final = 125
_STATUS_TIMEOUT: Final = 124
_MAX_CONSOLE_BYTES: Final = 4 << 20
_PANIC: Final = re.compile(r"Kernel panic - not syncing: (.*)")
_OOM: Final = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Killed process (\d+) \(([^)]*)\)")
_NOT_MOUNTED: Final = re.compile(r"insitu-lab: (cannot .*)")
# What the kernel prints about the CPU that takes an NMI, from its process to the end of the call trace.
_NMI_TRACE: Final = re.compile(r"^Kernel panic - not syncing: NMI: .*\n((?:.*\n)*? *</TASK>)", re.MULTILINE)
_TIMESTAMP: Final = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ")


class GuestError(InsituError):
    """The guest, not the command in it, failed.

    ``kind`` is panic, hang or death; ``tail`` holds the console's lines that say more.
    """

    def __init__(self, kind: str, message: str, tail: list[str], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, status=_STATUS_GUEST_FAILED)
        self.kind = kind
        self.tail = tail
        if tail:
            self.add_note("console:\n" + "\n".join(tail))  # for a traceback, in somebody's test


class CommandTimeoutError(InsituError):
    """The command in the guest took longer than allowed; the guest itself is well."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the command did not end within {seconds:g} s; the guest itself answers", status=_STATUS_TIMEOUT
        )


def console_tail(console: Path, lines: int = 20) -> list[str]:
    """The last lines of a guest's console, control characters removed."""
    return _read(console).splitlines()[-lines:]


def death(console: Path) -> GuestError:
    """Why the guest that wrote this console ended by itself."""
    text = _read(console)
    tail = text.splitlines()[-20:]
    panic = _PANIC.search(text)
    if panic:
        # What matters follows the message: CPU, process and the call trace.
        after = text[panic.start() :].splitlines()[:20]
        return GuestError("panic", f"the guest's kernel panicked: {panic[1].strip()}", after)
    missing = _NOT_MOUNTED.search(text)
    if missing:
        return GuestError("death", f"the guest ended while starting: {missing[1].strip()}", tail)
    return GuestError("death", "the guest ended by itself (a reboot or power-off inside)", tail)


def nmi_trace(console: Path) -> list[str]:
    """What the guest's kernel has said of the CPU on which an NMI made it panic; empty while it has not."""
    match = _NMI_TRACE.search(_read(console))
    return match[1].splitlines() if match else []


def oom_kills(text: str) -> tuple[str, ...]:
    """Processes that the kernel killed for lack of memory, as "NAME (pid N)", from console text."""
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
