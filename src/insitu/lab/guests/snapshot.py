"""Snapshots of booted guests: later guests restore the first one's memory instead of booting.

A snapshot is taken when the guest's agent waits for its first request, before this machine's files are mounted, as
QEMU refuses to save a guest that has 9p mounted. Its memory is in files: shared with the guest that makes the
snapshot, mapped privately (copy on write) by every guest that restores it, so that only the pages it uses are read.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.guests.guest import Guest
from insitu.lab.guests.machine import kernel_arguments, parse_size, qemu_program, snapshot_memory
from insitu.lab.guests.migration import save
from insitu.lab.kernels.busybox import busybox

__all__ = ["can_snapshot", "start_fast", "take"]

_KEPT: Final = 6
_SPARE_BYTES: Final = 512 << 20
_SAVE_SECONDS: Final = 60.0


def start_fast(guest: Guest) -> None:
    """Start a guest from its snapshot, which is made first if there is none; boot if it cannot have one."""
    if not can_snapshot(guest):
        guest.start()
        return
    home = cache_directory("snapshots") / _key(guest)
    if not (home / "devices").exists():
        if shutil.disk_usage(home.parent).free < parse_size(guest.options.memory) + _SPARE_BYTES:
            guest.start()
            return
        take(guest, home)
    os.utime(home)
    try:
        guest.start(snapshot=home)
    except InsituError as error:
        if error.status == 2:  # wrong usage, such as the name of a guest that is running
            raise
        # The snapshot may not fit any more (another host CPU, another QEMU): boot, and make a new one next time.
        shutil.rmtree(home, ignore_errors=True)
        guest.start()


def can_snapshot(guest: Guest) -> bool:
    """Whether the guest's machine can be saved: not with virtiofs, whose server has its own state."""
    options = guest.options
    return guest.transport == "9p" and not (options.disks or options.kgdb or options.initcall_debug)


def take(guest: Guest, home: Path) -> None:
    """Boot a guest with the options of ``guest`` and save its state in the directory ``home``."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home.parent) as scratch:
        partial = Path(scratch) / "snapshot"
        partial.mkdir()
        source = Guest(guest.kernel, guest.options)
        try:
            source.boot_only(snapshot_memory(guest.options, partial, share=True))
            save(source.qmp, partial / "devices.partial", time.monotonic() + _SAVE_SECONDS)
        finally:
            source.stop()
        (partial / "devices.partial").rename(partial / "devices")
        (partial / "about.json").write_text(json.dumps({"kernel": guest.kernel.release}))
        with contextlib.suppress(OSError):
            partial.rename(home)  # fails when another process was faster
    _drop_oldest(home.parent)


def _key(guest: Guest) -> str:
    """A hash of everything the saved state depends on."""
    stamps = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (guest.kernel.image, Path(qemu_program()), busybox(), *Path(__file__).parent.glob("*.sh"))
    ]
    machine = (guest.options.cpus, guest.options.memory, guest.options.numa, kernel_arguments(guest.options))
    devices = (
        guest.options.cpu,
        guest.options.crashkernel,
        guest.options.net,
        len(guest.options.rw),
        guest.accelerator,
    )
    return hashlib.sha256(repr((machine, devices, stamps)).encode()).hexdigest()[:32]


def _drop_oldest(directory: Path) -> None:
    kept = sorted(
        (path for path in directory.iterdir() if path.name[0] != "."), key=lambda path: path.stat().st_mtime
    )
    for path in kept[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
