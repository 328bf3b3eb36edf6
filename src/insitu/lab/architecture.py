"""What differs between the architectures of guests: one row per architecture.

A guest runs this machine's own programs, so its kernel has this machine's architecture.
"""

import os
from dataclasses import dataclass
from typing import Final

from insitu.errors import InsituError

__all__ = ["Architecture", "elf_machine_name", "host_architecture"]


@dataclass(frozen=True)
class Architecture:
    """An architecture, under the name that ``uname -m`` prints.

    ``debian`` is its name in Debian's package names, ``elf_machine`` its number in an ELF header (EM_* in elf.h),
    ``boot_image`` where the kernel's make leaves what it builds for ``make_target``. ``kernel_arguments`` belong on
    every guest's kernel command line; ``kgdb_console`` is the second serial line as the kernel calls it.
    ``plain_machine`` is the QEMU machine for kernels that are too slow for the default one's ACPI tables, and
    ``program_counter`` the register's name in QEMU's `info registers`.
    """

    machine: str
    debian: str
    elf_machine: int
    qemu_program: str
    qemu_package: str
    make_target: str
    boot_image: str
    kernel_arguments: tuple[str, ...]
    kgdb_console: str
    plain_machine: str
    program_counter: str


_ARCHITECTURES: Final = {
    "x86_64": Architecture(
        machine="x86_64",
        debian="amd64",
        elf_machine=62,
        qemu_program="qemu-system-x86_64",
        qemu_package="qemu-system-x86",
        make_target="bzImage",
        boot_image="arch/x86/boot/bzImage",
        kernel_arguments=("console=ttyS0", "tsc=reliable", "no_timer_check", "8250.nr_uarts=2"),
        kgdb_console="ttyS1",
        plain_machine="q35",
        program_counter="RIP",
    ),
}

_ELF_MACHINES: Final = {
    3: "i386",
    20: "ppc",
    21: "ppc64",
    22: "s390",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}


def host_architecture() -> Architecture:
    """This machine's architecture. Raises InsituError if the lab does not support it."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise InsituError(f"the lab does not support {machine} yet; it supports {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine]


def elf_machine_name(number: int) -> str:
    """The name of an ELF header's e_machine, as messages show it."""
    return _ELF_MACHINES.get(number, f"ELF machine {number}")
