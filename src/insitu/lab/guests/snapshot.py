"""Snapshots of booted guests: a second start continues the first one's memory instead of booting again.

A snapshot is taken when the guest's agent waits for its first word, before this machine's files are mounted, as
QEMU refuses to save a guest that has 9p mounted. Its memory lies in files: shared with the guest that made the
snapshot, mapped privately (copy on write) by every guest that continues it, so that continuing reads only what
is touched. QEMU's migration stream holds the devices alone (capability x-ignore-shared).
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.guests.guest import IGNORE_SHARED_MEMORY, Guest
from insitu.lab.guests.machine import kernel_arguments, parse_size, qemu_program
from insitu.lab.guests.memory import snapshot_memory
from insitu.lab.kernels.busybox import busybox

__all__ = ["can_snapshot", "start_fast", "take"]

_KEPT: Final = 6
_ROOM: Final = 512 << 20


def start_fast(guest: Guest) -> None:
    """Start a guest from its snapshot, which is made first when there is none; boot where none can be had."""
    if not can_snapshot(guest):
        guest.start()
        return
    home = cache_directory("snapshots") / _key(guest)
    if not (home / "devices").exists():
        if shutil.disk_usage(home.parent).free < parse_size(guest.options.memory) + _ROOM:
            guest.start()
            return
        take(guest, home)
    os.utime(home)
    try:
        guest.start(snapshot=home)
    except InsituError:
        # A snapshot may outlive what it was made with (another host CPU, a changed QEMU): boot, and make it anew.
        shutil.rmtree(home, ignore_errors=True)
        guest.start()


def can_snapshot(guest: Guest) -> bool:
    """Whether the guest's machine can be saved: not with virtiofs, whose server has a state of its own."""
    options = guest.options
    return guest.transport == "9p" and not (options.disks or options.kgdb or options.initcall_debug)


def take(guest: Guest, home: Path) -> None:
    """Boot a guest like ``guest`` and keep its state in the directory ``home``."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home.parent) as scratch:
        partial = Path(scratch) / "snapshot"
        partial.mkdir()
        source = Guest(guest.kernel, guest.options)
        try:
            source.boot_only(snapshot_memory(guest.options, partial, share=True))
            qmp = source.qmp
            qmp.execute("stop")
            qmp.execute("migrate-set-capabilities", capabilities=[IGNORE_SHARED_MEMORY])
            qmp.execute("migrate", uri=f"exec:cat >'{partial}/devices.partial'")
            while (state := qmp.execute("query-migrate").get("status")) in ("setup", "active", "device", None):
                pass
            if state != "completed":
                raise InsituError(f"QEMU cannot save the guest: migration {state}")
        finally:
            source.stop()
        (partial / "devices.partial").rename(partial / "devices")
        (partial / "about.json").write_text(json.dumps({"kernel": guest.kernel.release}))
        with contextlib.suppress(OSError):
            partial.rename(home)  # fails when another process was faster
    _drop_oldest(home.parent)


def _key(guest: Guest) -> str:
    """Names everything the saved state depends on."""
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
