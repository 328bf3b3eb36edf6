"""The guests that run now, as their directories tell: for `insitu lab ps`, and to reach one by name."""

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import guests_directory

__all__ = ["Running", "find_guest", "running_guests", "stop_guest"]

_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Running:
    """A guest of this user; ``owner`` is the process that started it, ``started`` a time.time()."""

    name: str
    kernel: str
    release: str
    cpus: int
    memory: str
    accelerator: str
    owner: int
    started: float
    directory: Path


def running_guests() -> list[Running]:
    """The guests that run, oldest first."""
    guests = []
    base = guests_directory()
    for file in base.glob("*/guest.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            fields = json.loads(file.read_text())
            os.kill(int(fields["qemu"]), 0)
            guests.append(
                Running(
                    str(fields["name"]),
                    str(fields["kernel"]),
                    str(fields["release"]),
                    int(fields["cpus"]),
                    str(fields["memory"]),
                    str(fields["accelerator"]),
                    int(fields["pid"]),
                    float(fields["started"]),
                    file.parent,
                )
            )
    with contextlib.suppress(OSError):
        base.rmdir()  # only succeeds when no guest runs
    return sorted(guests, key=lambda guest: guest.started)


def find_guest(name: str) -> Running:
    """The running guest of that name, or the only one when its name is not given."""
    guests = running_guests()
    if not name and len(guests) == 1:
        return guests[0]
    for guest in guests:
        if guest.name == name:
            return guest
    names = ", ".join(guest.name for guest in guests)
    raise InsituError(
        f"no guest {name!r} runs" if name else "say which guest" if guests else "no guest runs",
        remedy=f"running: {names}" if names else "insitu lab shell starts one",
    )


def stop_guest(guest: Running) -> None:
    """End a guest by ending QEMU, which its owner hears of. Raises InsituError when it does not end."""
    pid = int(json.loads((guest.directory / "guest.json").read_text())["qemu"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while guest.directory.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    if guest.directory.exists():
        raise InsituError(f"guest {guest.name} does not end; its owner is process {guest.owner}")
