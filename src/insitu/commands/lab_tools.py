"""`insitu lab dump | gdb | trace`: a running guest from outside."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.commands.lab_parser import subcommand

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["arguments"]

_GUEST_HELP = "its name, as `insitu lab ps` shows it; not needed when only one runs"


def arguments(subparsers: "Subparsers") -> None:
    """Declare this module's subcommands."""
    dump = subcommand(
        subparsers,
        "dump",
        "the memory of a running guest, readable by drgn and crash",
        "dump -o core.vmcore && drgn -c core.vmcore -s VMLINUX",
        "dump NAME --format kdump -o core.kdump",
    )
    dump.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    dump.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the vmcore to write")
    dump.add_argument(
        "--format", choices=("elf", "kdump"), default="elf", help="plain (default), or compressed page by page"
    )
    dump.set_defaults(action=_dump)

    gdb = subcommand(
        subparsers,
        "gdb",
        "gdb on a running guest's kernel",
        "gdb",
        'gdb NAME --batch --ex "info threads" --ex bt',
    )
    gdb.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    gdb.add_argument("--ex", action="append", default=[], metavar="COMMAND", help="a gdb command to begin with")
    gdb.add_argument(
        "--kgdb",
        action="store_true",
        help="by the guest's own debugger; `echo g >/proc/sysrq-trigger` inside stops it",
    )
    gdb.add_argument("--batch", action="store_true", help="end after the commands")
    gdb.set_defaults(action=_gdb)

    trace = subcommand(
        subparsers,
        "trace",
        "QEMU's own trace events and log items, recorded into a session",
        "trace --list | grep virtio",
        "trace NAME --events 'virtio_*' -d 10 -o qemu.insitu && insitu sql qemu.insitu \"from event.qemu\"",
        "trace --log int,guest_errors",
    )
    trace.add_argument("guest", nargs="?", default="", help=_GUEST_HELP)
    trace.add_argument("--events", action="append", default=[], metavar="PATTERN", help="such as 'virtio_*'")
    trace.add_argument(
        "--log", default="", metavar="ITEMS", help="items of QEMU's -d option, such as int,guest_errors"
    )
    trace.add_argument("-d", "--duration", type=float, default=5, metavar="SECONDS", help="how long (default 5)")
    trace.add_argument("-o", "--output", type=Path, default=Path("qemu.insitu"), metavar="DIR", help="the session")
    trace.add_argument("--list", action="store_true", help="list what there is instead")
    trace.set_defaults(action=_trace)


def _dump(args: argparse.Namespace) -> int:
    from insitu.lab.guests.running_guests import find_guest
    from insitu.lab.memory_dump import dump_memory

    size = dump_memory(find_guest(args.guest), args.output, args.format)
    print(f"{args.output}: {size >> 20} MB; drgn -c {args.output} opens it")
    return 0


def _gdb(args: argparse.Namespace) -> int:
    import subprocess

    from insitu.lab.debugger import gdb_command
    from insitu.lab.guests.running_guests import find_guest

    extra = [word for command in args.ex for word in ("-ex", command)]
    words, note = gdb_command(find_guest(args.guest), extra, kgdb=args.kgdb)
    if note:
        print(f"insitu: {note}", file=sys.stderr)
    if args.batch:
        # Without letting go, gdb's end would leave the guest standing still.
        words += ["-ex", "detach", "-batch"]
    return subprocess.run(words, check=False).returncode


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
        raise InsituError("say which --events or --log items", remedy="--list shows them", status=2)
    count = record_trace(guest, args.events, items, args.duration, args.output)
    print(f"{args.output}: {count} events of QEMU in the table event.qemu")
    return 0
