"""`insitu lab run | shell | ps | stop`: guests, and commands in them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu import messages
from insitu.commands._options import duration, json_option, positive
from insitu.commands.lab._subcommands import Subcommands
from insitu.files import write_all
from insitu.terminal_text import print_line

if TYPE_CHECKING:
    from insitu.lab.guests.guest import Guest
    from insitu.lab.guests.machine import Options

__all__ = ["arguments", "machine_arguments", "machine_options"]


def arguments(subcommands: Subcommands) -> None:
    """Declare this module's subcommands."""
    run = subcommands.add(
        "run",
        "run a command in a temporary guest",
        "run -k 6.1 -- uname -r",
        "run -k 6.12 --cpus 4 --numa 2 -- numactl --hardware",
        "run -k ./arch/x86/boot/bzImage --rw results -- ./test.sh",
        "run -k 6.1 --append mitigations=off --timeout 60 -- ./benchmark",
    )
    run.add_argument("-k", "--kernel", default="6.1", help="a name, a release or an image's path (default 6.1)")
    machine_arguments(run)
    run.add_argument(
        "--timeout", type=duration, metavar="SECONDS", help="end the command and the guest after this time"
    )
    run.add_argument(
        "--no-snapshot", action="store_true", help="boot instead of restoring a snapshot of a booted guest"
    )
    run.add_argument("command", nargs="+", metavar="CMD", help="the command, after --")
    run.set_defaults(action=_run)

    shell = subcommands.add(
        "shell",
        "run a shell, or another program on a terminal, in a guest",
        "shell -k 6.12",
        "shell -k 6.1-rt --memory 4G -- htop",
    )
    shell.add_argument("-k", "--kernel", default="6.1", help="as for run")
    machine_arguments(shell)
    shell.add_argument("command", nargs="*", metavar="CMD", help="the program to run (default: $SHELL)")
    shell.set_defaults(action=_shell)

    ps = subcommands.add(
        "ps",
        "list the running guests",
        "ps",
    )
    json_option(ps)
    ps.set_defaults(action=_ps)

    stop = subcommands.add(
        "stop",
        "stop guests",
        "stop NAME",
        "stop                             # all",
    )
    stop.add_argument("guest", nargs="*", help="names (default: all)")
    stop.set_defaults(action=_stop)


def machine_arguments(
    parser: argparse.ArgumentParser, name: str = "the guest's name, for ps, stop, dump, gdb and trace"
) -> None:
    """Declare the options of the guest's machine; ``name`` is the help text of --name."""
    group = parser.add_argument_group("machine")
    group.add_argument("--name", default="", help=name)
    group.add_argument("--cpus", type=positive, default=2, metavar="N", help="CPUs (default 2)")
    group.add_argument("--memory", default="1G", metavar="SIZE", help="512M, 2G ... (default 1G)")
    group.add_argument("--numa", type=positive, default=1, metavar="N", help="NUMA nodes (default 1)")
    group.add_argument("--append", default="", metavar="WORDS", help="words to add to the kernel's command line")
    group.add_argument(
        "--initcall-debug",
        action="store_true",
        help="boot with initcall_debug: the kernel prints the time of each initcall",
    )
    group.add_argument("--kgdb", action="store_true", help="a serial line for KGDB (needs a kernel with CONFIG_KGDB)")
    group.add_argument(
        "--cpu",
        default="",
        metavar="MODEL",
        help="CPU model as for QEMU's -cpu (max adds AVX2, which QEMU 7.2 emulates wrongly)",
    )
    group.add_argument("--crashkernel", default="", metavar="SIZE", help="memory reserved for a crash kernel")
    group.add_argument(
        "--disk", action="append", default=[], type=Path, metavar="FILE", help="a disk image (raw, qcow2)"
    )
    group.add_argument(
        "--net",
        default="none",
        choices=("none", "user"),
        help="network: none (default), or through this machine (user)",
    )
    group.add_argument(
        "--rw", action="append", default=[], type=Path, metavar="DIR", help="a directory the guest may write to"
    )


def machine_options(args: argparse.Namespace) -> "Options":
    """The machine that the options of ``machine_arguments`` describe."""
    from insitu.lab.guests.machine import Options

    fields: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("cpus", "cpu", "memory", "numa", "append", "initcall_debug", "kgdb", "crashkernel", "net")
    }
    return Options(**fields, disks=tuple(args.disk), rw=tuple(args.rw))


def _run(args: argparse.Namespace) -> int:
    from insitu.lab.guests.failures import GuestError
    from insitu.lab.guests.guest import Guest
    from insitu.lab.guests.snapshot import start_fast
    from insitu.lab.kernels.find_kernel import find_kernel

    guest = Guest(find_kernel(args.kernel), machine_options(args), name=args.name)
    _say_if_emulated(guest)
    try:
        with guest.started(guest.start if args.no_snapshot else lambda: start_fast(guest)):
            if args.initcall_debug:
                sys.stderr.write("".join(f"{line}\n" for line in guest.console(20_000) if "initcall" in line))
            outcome = guest.run(
                args.command,
                stdin=sys.stdin.fileno(),
                timeout=args.timeout,
                stdout=lambda data: write_all(sys.stdout.fileno(), data),
                stderr=lambda data: write_all(sys.stderr.fileno(), data),
            )
    except GuestError as failure:
        for line in failure.tail:
            messages.block(line, prefix="console: ")
        raise
    for victim in outcome.oom_kills:
        messages.note(f"the guest's OOM killer killed {victim} (--memory {args.memory})")
    return outcome.status


def _say_if_emulated(guest: "Guest") -> None:
    if sys.stderr.isatty() and guest.accelerator == "tcg":
        messages.note("no KVM: the guest's CPUs are emulated, which is slow")


def _shell(args: argparse.Namespace) -> int:
    import os

    from insitu.lab.guests.guest import Guest
    from insitu.lab.guests.snapshot import start_fast
    from insitu.lab.guests.terminal import interact
    from insitu.lab.kernels.find_kernel import find_kernel

    guest = Guest(find_kernel(args.kernel), machine_options(args), name=args.name)
    _say_if_emulated(guest)
    with guest.started(lambda: start_fast(guest)):
        return interact(guest, args.command or [os.environ.get("SHELL", "/bin/sh")])


def _ps(args: argparse.Namespace) -> int:
    import json
    import time

    from insitu.lab.guests.running_guests import running_guests

    guests = running_guests()
    if args.json:
        print(json.dumps([vars(guest) | {"directory": str(guest.directory)} for guest in guests], indent=1))
        return 0
    if not guests:
        print("no guest is running")
        return 0
    width = max(len(guest.name) for guest in guests)
    for guest in guests:
        age = time.time() - guest.started
        machine = f"{guest.cpus} CPUs, {guest.memory}, {guest.accelerator}"
        print_line(f"{guest.name:<{width}}  {guest.release}  {machine}  up {age:.0f} s  owner {guest.owner}")
    return 0


def _stop(args: argparse.Namespace) -> int:
    from insitu.lab.guests.running_guests import find_guest, running_guests, stop_guest

    for guest in [find_guest(name) for name in args.guest] or running_guests():
        stop_guest(guest)
        print_line(f"{guest.name} ended")
    return 0
