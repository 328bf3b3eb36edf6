"""gdb on a guest's kernel, through QEMU's gdb server or the kernel's own KGDB, with the kernel's symbols."""

import shutil
from pathlib import Path

from insitu.errors import InsituError
from insitu.lab.guests.running_guests import Running
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.lab.qmp import Qmp

__all__ = ["gdb_command"]


def gdb_command(guest: Running, extra: list[str], *, kgdb: bool = False) -> tuple[list[str], str]:
    """Start the guest's gdb server; returns the gdb command, and a note if symbols are missing.

    With ``kgdb``, gdb connects not to QEMU but to the guest kernel's own debugger, on the serial line of a guest
    that was started with --kgdb. Guests boot with nokaslr, so that a vmlinux's addresses are the running kernel's.
    """
    gdb = shutil.which("gdb")
    if gdb is None:
        raise InsituError("gdb is not installed", remedy="apt-get install gdb")
    server = guest.directory / "kgdb" if kgdb else _start_server(guest)
    if not server.exists():
        raise InsituError(f"guest {guest.name} has no serial line for KGDB", remedy="start it with --kgdb")
    kernel = find_kernel(guest.kernel if "/" in guest.kernel else guest.release)
    symbols = kernel.debuginfo if kernel.debuginfo is not None else kernel.bootable
    note = "" if kernel.debuginfo else f"no symbols for {kernel.name}: insitu lab fetch {kernel.name} --debuginfo"
    return [gdb, "-q", str(symbols), "-ex", f"target remote {server}", *extra], note


def _start_server(guest: Running) -> Path:
    server = guest.directory / "gdb"
    with Qmp(guest.directory / "qmp2") as qmp:
        complaint = qmp.human(f"gdbserver unix:{server},server=on,wait=off").strip()
    if not server.exists():
        raise InsituError(f"QEMU did not start its gdb server: {complaint or 'no reason given'}")
    return server
