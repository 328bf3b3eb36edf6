"""The guests that run now, found by their directories: for `insitu lab ps`, and to reach one by its name."""

import contextlib
import json
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.lab.directories import guests_directory
from insitu.lab.guests.failures import STOPPED

__all__ = ["Running", "find_guest", "qemu_start_time", "running_guests", "stop_guest"]

_STOP_SECONDS: Final = 5.0
_QEMU: Final = "qemu"  # in the program's name; distributions wrap it (".qemu-system-x86_64-wrapped")


@dataclass(frozen=True)
class Running:
    """A guest of this user.

    ``owner`` is the pid of the process that started it, ``qemu`` QEMU's and ``qemu_start`` QEMU's start time (clock
    ticks since boot); ``started`` is a time.time().
    """

    name: str
    kernel: str
    release: str
    cpus: int
    memory: str
    accelerator: str
    owner: int
    started: float
    directory: Path
    qemu: int
    qemu_start: int


def running_guests() -> list[Running]:
    """The guests that run, oldest first."""
    guests = []
    base = guests_directory()
    for file in base.glob("*/guest.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            fields = json.loads(file.read_text())
            guest = Running(
                str(fields["name"]),
                str(fields["kernel"]),
                str(fields["release"]),
                int(fields["cpus"]),
                str(fields["memory"]),
                str(fields["accelerator"]),
                int(fields["pid"]),
                float(fields["started"]),
                file.parent,
                int(fields["qemu"]),
                int(fields["qemu_start"]),
            )
            if _runs(guest):
                guests.append(guest)
    with contextlib.suppress(OSError):
        base.rmdir()  # only succeeds if no guest runs
    return sorted(guests, key=lambda guest: guest.started)


def find_guest(name: str) -> Running:
    """The running guest of that name; with an empty name, the only one. Raises InsituError if there is none."""
    guests = running_guests()
    if not name and len(guests) == 1:
        return guests[0]
    for guest in guests:
        if guest.name == name:
            return guest
    if not guests:
        raise InsituError("no guest is running", remedy="insitu lab shell starts one")
    raise InsituError(
        f"no guest named {name!r} is running" if name else "more than one guest is running; give a name",
        remedy=f"running: {', '.join(guest.name for guest in guests)}",
    )


def stop_guest(guest: Running) -> None:
    """Send QEMU SIGTERM and wait for its end, on which the guest's owner removes its directory.

    Raises InsituError if it does not end. A process that merely has QEMU's former pid is left alone.
    """
    try:
        # The descriptor refers to the process that is checked next, even if it exits and its pid is reused.
        pidfd = os.pidfd_open(guest.qemu)
    except ProcessLookupError:
        return
    try:
        if not _runs(guest):
            return
        with contextlib.suppress(OSError):
            (guest.directory / STOPPED).touch()
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_STOP_SECONDS * 1000):
            raise InsituError(f"guest {guest.name} does not end: QEMU, process {guest.qemu}, ignores SIGTERM")
    finally:
        os.close(pidfd)


def qemu_start_time(pid: int) -> int | None:
    """When a QEMU process started, in clock ticks since boot; None if ``pid`` is not a running QEMU of this user."""
    try:
        _, program = procfs.exe(pid)
        return procfs.start_time(pid) if _QEMU in Path(program).name else None
    except (OSError, IndexError, ValueError):  # gone, a zombie, or another user's
        return None


def _runs(guest: Running) -> bool:
    return qemu_start_time(guest.qemu) == guest.qemu_start
