"""`insitu lab dump | gdb | trace`: a running guest observed from outside."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands._options import duration
from insitu.commands.lab._subcommands import Subcommands

if TYPE_CHECKING:
    from insitu.lab.guests.running_guests import Running

__all__ = ["arguments"]

_GUEST_HELP = "its name in `insitu lab ps`; optional if only one guest is running"


def arguments(subcommands: Subcommands) -> None:
    """Declare this module's subcommands."""
    dump = subcommands.add(
        "dump",
        "dump the memory of a running guest, for drgn and crash",
        "dump -o core.vmcore && drgn -c core.vmcore -s VMLINUX",
        "dump NAME --format kdump -o core.kdump",
    )
    dump.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    dump.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the vmcore to write")
    dump.add_argument(
        "--format",
        choices=("elf", "kdump"),
        default="elf",
        help="uncompressed (elf, the default), or compressed page by page (kdump)",
    )
    dump.set_defaults(action=_dump)

    gdb = subcommands.add(
        "gdb",
        "debug a running guest's kernel with gdb",
        "gdb",
        'gdb NAME --batch --ex "info threads" --ex bt',
    )
    gdb.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    gdb.add_argument("--ex", action="append", default=[], metavar="COMMAND", help="run this gdb command first")
    gdb.add_argument(
        "--kgdb",
        action="store_true",
        help="connect to the kernel's KGDB; `echo g >/proc/sysrq-trigger` in the guest stops it",
    )
    gdb.add_argument("--batch", action="store_true", help="exit after the commands")
    gdb.set_defaults(action=_gdb)

    trace = subcommands.add(
        "trace",
        "record QEMU's trace events and log items into a session",
        "trace --list | grep virtio",
        "trace NAME --events 'virtio_*' -d 10 -o qemu.insitu && insitu sql qemu.insitu \"from event.qemu\"",
        "trace --log int,guest_errors",
    )
    trace.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    trace.add_argument(
        "--events", action="append", default=[], metavar="PATTERN", help="trace events, such as 'virtio_*'"
    )
    trace.add_argument(
        "--log", default="", metavar="ITEMS", help="items of QEMU's -d option, such as int,guest_errors"
    )
    trace.add_argument("-d", "--duration", type=duration, default=5.0, metavar="SECONDS", help="how long (default 5)")
    trace.add_argument("-o", "--output", type=Path, default=Path("qemu.insitu"), metavar="DIR", help="the session")
    trace.add_argument(
        "--list", action="store_true", help="list events (those that match --events) and log items instead"
    )
    trace.set_defaults(action=_trace)


def _dump(args: argparse.Namespace) -> int:
    from insitu.lab.guests.running_guests import find_guest
    from insitu.lab.memory_dump import dump_memory

    guest = find_guest(args.guest)
    size = dump_memory(guest, args.output, args.format)
    print(f"{args.output}: {size >> 20} MB; {_how_to_open(guest, args.output)}")
    return 0


def _how_to_open(guest: "Running", dump: Path) -> str:
    """drgn's command, with the vmlinux of the guest's kernel; or how to get that."""
    from insitu.errors import InsituError
    from insitu.lab.kernels.find_kernel import find_kernel

    try:
        kernel = find_kernel(guest.kernel)
    except InsituError:  # a path that has gone
        return f"drgn -c {dump} -s VMLINUX opens it, with the vmlinux of {guest.release}"
    if kernel.debuginfo is not None:
        return f"drgn -c {dump} -s {kernel.debuginfo} opens it"
    fetch = f"insitu lab fetch {kernel.name} --debuginfo"
    return f"drgn needs the kernel's vmlinux ({fetch}), then drgn -c {dump} -s VMLINUX opens it"


def _gdb(args: argparse.Namespace) -> int:
    import subprocess

    from insitu.lab.debugger import gdb_command
    from insitu.lab.guests.running_guests import find_guest

    extra = [word for each in args.ex for word in ("-ex", each)]
    command, note = gdb_command(find_guest(args.guest), extra, kgdb=args.kgdb)
    if note:
        messages.note(note)
    if args.batch:
        # Without detach, the guest would remain stopped after gdb has exited.
        command += ["-ex", "detach", "-batch"]
    return subprocess.run(command, check=False).returncode


def _trace(args: argparse.Namespace) -> int:
    from insitu.errors import InsituError
    from insitu.lab.guests.running_guests import find_guest
    from insitu.lab.qemu_trace import list_events, list_log_items, record_trace

    guest = find_guest(args.guest)
    if args.list:
        for pattern in args.events or ["*"]:
            print("\n".join(list_events(guest, pattern)))
        print("\nlog items:\n" + "\n".join(list_log_items(guest)))
        return 0
    items = [item for item in args.log.split(",") if item]
    if not (args.events or items):
        raise InsituError("give --events or --log", remedy="--list shows what they accept", status=2)
    count = record_trace(guest, args.events, items, args.duration, args.output)
    print(f"{args.output}: {count} events in the table event.qemu")
    return 0
