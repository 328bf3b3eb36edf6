"""What a guest's machine is made of, and the QEMU command line that makes it."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.kernels.kernel import Kernel
from insitu.lab.kernels.modules import has_feature

__all__ = [
    "PORTS",
    "Options",
    "command_line",
    "features",
    "kernel_arguments",
    "parse_size",
    "qemu_program",
    "shares",
    "transport",
]

PORTS: Final = ("control", "stdin", "stdout", "stderr")
"""The guest's virtio-serial ports (``insitu.NAME`` inside), each a Unix socket NAME in the guest's directory."""

_SIZE_UNITS: Final = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MIN_MEMORY: Final = 128 << 20


@dataclass(frozen=True)
class Options:
    """A guest's machine. ``memory`` and ``crashkernel`` are sizes as QEMU and the kernel write them (512M, 2G).

    ``cpu`` is a CPU as QEMU's -cpu names it; by default the host's, emulated or not, less what is emulated wrongly.
    ``boot_timeout`` is in seconds; by default as the kernel needs.
    """

    cpus: int = 2
    cpu: str = ""
    memory: str = "1G"
    numa: int = 1
    append: str = ""
    initcall_debug: bool = False
    kgdb: bool = False
    crashkernel: str = ""
    disks: tuple[Path, ...] = ()
    net: str = "none"
    rw: tuple[Path, ...] = ()
    boot_timeout: float | None = None

    def check(self, kernel: Kernel) -> None:
        """Raise InsituError for what cannot be, naming the option."""
        if self.cpus < 1 or self.numa < 1 or self.numa > self.cpus:
            raise InsituError(f"{self.cpus} CPUs do not make {self.numa} NUMA nodes; each needs one CPU", status=2)
        if parse_size(self.memory) < _MIN_MEMORY * self.numa:
            raise InsituError(f"--memory {self.memory} is too little; a NUMA node needs 128M", status=2)
        if self.net not in ("none", "user"):
            raise InsituError(f"no network {self.net!r}; there are none and user", status=2)
        for path in self.rw:
            if not path.is_dir():
                raise InsituError(f"--rw {path} is not a directory", status=2)
        for path in self.disks:
            if not path.exists():
                raise InsituError(f"--disk {path} does not exist", status=2)
        if self.kgdb and kernel.options and "KGDB_SERIAL_CONSOLE" not in kernel.options:
            version = kernel.name.split("-")[0]
            raise InsituError(
                f"kernel {kernel.name} is built without CONFIG_KGDB_SERIAL_CONSOLE",
                remedy=f"insitu lab gdb works with any kernel; or insitu lab build -k {version} --with kgdb",
            )


def parse_size(text: str) -> int:
    """``512M`` or ``2G`` in bytes; a bare number counts MiB, as it does for QEMU."""
    match = re.fullmatch(r"(\d{1,7})([KMG]?)", text.upper().removesuffix("B"))
    if not match:
        raise InsituError(f"{text!r} is not a size such as 512M or 2G", status=2)
    return int(match[1]) * _SIZE_UNITS[match[2]]


def qemu_program() -> str:
    """QEMU's path. Raises InsituError saying how to get it."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise InsituError("the lab needs QEMU", remedy="apt-get install qemu-system-x86")
    return program


def transport(kernel: Kernel) -> str:
    """How the guest reaches this machine's files: 9p, or virtiofs where the kernel has no 9p (Debian's cloud one)."""
    return "9p" if has_feature(kernel, "9p") else "virtiofs"


def features(kernel: Kernel, options: Options) -> tuple[str, ...]:
    """What the kernel must have, as keys of insitu.lab.kernels.modules.FEATURES."""
    wanted = ["virtio", "serial ports", transport(kernel), "overlay"]
    wanted += ["network"] * (options.net == "user") + ["disk"] * bool(options.disks)
    # Lets the kernel tell QEMU where its vmcoreinfo is, without which a memory dump cannot be opened.
    wanted += ["firmware configuration"] * has_feature(kernel, "firmware configuration")
    return tuple(wanted)


def kernel_arguments(options: Options) -> str:
    """The guest kernel's command line."""
    words = ["console=ttyS0", "panic=-1", "tsc=reliable", "no_timer_check", "8250.nr_uarts=2", "nokaslr"]
    # How a guest that hangs can be made to say where: QEMU sends it an NMI, and it panics with the CPU's call trace.
    words += ["unknown_nmi_panic"]
    words += ["initcall_debug", "loglevel=8"] if options.initcall_debug else ["quiet"]
    words += ["kgdboc=ttyS1,115200"] * options.kgdb
    words += [f"crashkernel={options.crashkernel}"] * bool(options.crashkernel)
    return " ".join([*words, *options.append.split()])


def command_line(kernel: Kernel, options: Options, directory: Path, accelerator: str, ram: list[str]) -> list[str]:
    """QEMU's command line for a guest whose sockets, initramfs and console file are in ``directory``.

    ``ram`` holds the -object and -numa words that the memory is made of.
    """
    # QEMU 7.2's emulation of AVX2 is wrong in places: numpy.argsort puts out orders that are none.
    cpu = options.cpu or ("host" if accelerator == "kvm" else "max,avx2=off")
    words = [qemu_program(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    # Trace events, when `insitu lab trace` asks for them, come with their time.
    words += ["-msg", "timestamp=on"]
    # The default machine's table of PCI interrupts is a program, which takes longer than the kernel's interpreter
    # allows when every access is checked; this one's is a table.
    words += ["-machine", "q35"] * kernel.checks
    words += ["-accel", "tcg,thread=multi" if accelerator == "tcg" else accelerator, "-cpu", cpu]
    words += ["-smp", _sockets(options), "-m", f"{parse_size(options.memory) >> 20}M", *ram]
    words += [
        "-kernel",
        str(kernel.bootable),
        "-initrd",
        str(directory / "initramfs"),
        "-append",
        kernel_arguments(options),
    ]
    words += ["-chardev", f"file,id=console,path={directory}/console", "-serial", "chardev:console"]
    if options.kgdb:
        words += ["-chardev", f"socket,id=kgdb,path={directory}/kgdb,server=on,wait=off", "-serial", "chardev:kgdb"]
    # The first monitor is the owner's; the second is for `insitu lab dump`, `gdb` and `trace` from elsewhere.
    for monitor in ("qmp", "qmp2"):
        words += ["-qmp", f"unix:{directory}/{monitor},server=on,wait=off"]
    words += ["-device", "virtio-serial-pci,max_ports=8"]
    words += ["-chardev", f"socket,id=terminal,path={directory}/terminal,server=on,wait=off"]
    words += ["-device", "virtconsole,chardev=terminal,nr=0"]
    for number, port in enumerate(PORTS, start=1):
        words += ["-chardev", f"socket,id={port},path={directory}/{port},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev={port},name=insitu.{port},nr={number}"]
    for disk in options.disks:
        words += ["-drive", f"file={_escaped(disk)},format={_disk_format(disk)},if=virtio"]
    if options.net == "user":
        words += ["-nic", "user,model=virtio-net-pci"]
    # A restored snapshot gets a new generation id, which makes its kernel reseed its random numbers.
    return [*words, "-device", "vmcoreinfo", "-device", "vmgenid,guid=auto"]


def shares(options: Options) -> list[tuple[str, Path, bool]]:
    """What of this machine's files the guest sees: tag, directory, and whether it may write there."""
    return [("root", Path("/"), False), *((f"rw{n}", path.resolve(), True) for n, path in enumerate(options.rw))]


def _sockets(options: Options) -> str:
    """CPUs as -smp takes them: those of one socket share a cache, which no two NUMA nodes do."""
    if options.numa == 1:
        return str(options.cpus)
    sockets = options.numa if options.cpus % options.numa == 0 else options.cpus
    return f"{options.cpus},sockets={sockets},cores={options.cpus // sockets}"


def _escaped(path: Path) -> str:
    # A comma ends a value in QEMU's option syntax; two stand for one.
    return str(path.resolve()).replace(",", ",,")


def _disk_format(disk: Path) -> str:
    with disk.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
