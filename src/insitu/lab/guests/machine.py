"""A guest's machine: its options, and the QEMU command line and kernel command line made from them."""

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.kernels.kernel import Kernel
from insitu.lab.kernels.kernel_modules import has_feature

__all__ = [
    "PORTS",
    "Options",
    "boot_memory",
    "command_line",
    "escaped",
    "features",
    "kernel_arguments",
    "parse_size",
    "qemu_program",
    "shares",
    "snapshot_memory",
    "transport",
]

PORTS: Final = ("control", "stdin", "stdout", "stderr")
"""The guest's virtio-serial ports (``insitu.NAME`` inside), each a Unix socket NAME in the guest's directory."""

_SIZE_UNITS: Final = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MIN_MEMORY: Final = 128 << 20
_MAX_BOOT_SECONDS: Final = 86400.0
_CRASHKERNEL: Final = re.compile(r"\d[\w:,@-]{0,200}")  # Documentation/admin-guide/kdump/kdump.rst


@dataclass(frozen=True)
class Options:
    """A guest's machine.

    ``memory`` is a size such as 512M or 2G, ``crashkernel`` the kernel parameter of that name. ``cpu`` is a model of
    QEMU's -cpu; the default has every feature that the accelerator supports correctly. ``boot_timeout`` is in
    seconds; the default depends on the kernel. ``disks`` are image files, ``rw`` directories the guest may write to.
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
        """Raise InsituError, which names the option, for values that no guest can have with ``kernel``."""
        for option, count in (("cpus", self.cpus), ("numa", self.numa)):
            if count < 1:
                raise InsituError(f"--{option} {count}: must be at least 1", status=2)
        if self.numa > self.cpus:
            raise InsituError(f"--numa {self.numa} with --cpus {self.cpus}: each node needs a CPU", status=2)
        if parse_size(self.memory) < _MIN_MEMORY * self.numa:
            raise InsituError(f"--memory {self.memory} is too small: a NUMA node needs 128M", status=2)
        if self.net not in ("none", "user"):
            raise InsituError(f"--net {self.net!r}: must be none or user", status=2)
        if self.crashkernel and not _CRASHKERNEL.fullmatch(self.crashkernel):
            raise InsituError(f"--crashkernel {self.crashkernel!r} is not a size such as 256M", status=2)
        timeout = self.boot_timeout
        if timeout is not None and not (math.isfinite(timeout) and 0 < timeout <= _MAX_BOOT_SECONDS):
            raise InsituError(f"boot_timeout={timeout}: must be above 0 and at most 86400 s", status=2)
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
    """``512M`` or ``2G`` in bytes; a number without a unit is in MiB, as for QEMU. Raises InsituError."""
    match = re.fullmatch(r"(\d{1,7})([KMG]?)", text.upper().removesuffix("B"))
    if not match:
        raise InsituError(f"{text!r} is not a size such as 512M or 2G", status=2)
    return int(match[1]) * _SIZE_UNITS[match[2]]


def qemu_program() -> str:
    """The path of QEMU for this machine's architecture. Raises InsituError if it is not installed."""
    architecture = host_architecture()
    program = shutil.which(architecture.qemu_program)
    if program is None:
        raise InsituError("the lab needs QEMU", remedy=f"apt-get install {architecture.qemu_package}")
    return program


def transport(kernel: Kernel) -> str:
    """How the guest mounts this machine's files: 9p, or virtiofs if the kernel has no 9p (Debian's cloud kernel)."""
    return "9p" if has_feature(kernel, "9p") else "virtiofs"


def features(kernel: Kernel, options: Options) -> tuple[str, ...]:
    """What the kernel must have, as keys of insitu.lab.kernels.kernel_modules.FEATURES."""
    wanted = ["virtio", "serial ports", transport(kernel), "overlay"]
    wanted += ["network"] * (options.net == "user") + ["disk"] * bool(options.disks)
    # With it, the kernel gives QEMU the address of its vmcoreinfo, without which a memory dump cannot be opened.
    wanted += ["firmware configuration"] * has_feature(kernel, "firmware configuration")
    return tuple(wanted)


def kernel_arguments(options: Options) -> str:
    """The guest kernel's command line."""
    architecture = host_architecture()
    arguments = [*architecture.kernel_arguments, "panic=-1", "nokaslr"]
    # If the guest hangs, QEMU sends it an NMI, on which its kernel panics and prints the CPU's call trace.
    arguments += ["unknown_nmi_panic"]
    arguments += ["initcall_debug", "loglevel=8"] if options.initcall_debug else ["quiet"]
    arguments += [f"kgdboc={architecture.kgdb_console},115200"] * options.kgdb
    arguments += [f"crashkernel={options.crashkernel}"] * bool(options.crashkernel)
    return " ".join([*arguments, *options.append.split()])


def command_line(
    kernel: Kernel, options: Options, directory: Path, accelerator: str, memory: Sequence[str]
) -> list[str]:
    """QEMU's command line for a guest whose sockets, initramfs and console file are in ``directory``.

    ``memory`` are the arguments for its memory: ``boot_memory`` or ``snapshot_memory``.
    """
    home = escaped(directory)
    # QEMU 7.2's emulation of AVX2 is wrong in places: numpy.argsort returns wrong orders.
    cpu = options.cpu or ("host" if accelerator == "kvm" else "max,avx2=off")
    arguments = [qemu_program(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    # For the trace events of `insitu lab trace`.
    arguments += ["-msg", "timestamp=on"]
    # The default machine's table of PCI interrupts is an ACPI program, and in a kernel that checks every access it
    # runs into the interpreter's time limit; this machine's is a constant.
    arguments += ["-machine", host_architecture().plain_machine] * kernel.checks
    # One thread emulates all CPUs: with one each, a kernel that changes its own code (static keys, probes) can leave
    # another CPU with the old translation for good, such as a breakpoint: "Oops: int3" within seconds (QEMU 7.2).
    arguments += ["-accel", "tcg,thread=single" if accelerator == "tcg" else accelerator, "-cpu", cpu]
    arguments += ["-smp", _sockets(options), "-m", f"{parse_size(options.memory) >> 20}M", *memory]
    arguments += [
        "-kernel",
        str(kernel.bootable),
        "-initrd",
        str(directory / "initramfs"),
        "-append",
        kernel_arguments(options),
    ]
    arguments += ["-chardev", f"file,id=console,append=on,path={home}/console", "-serial", "chardev:console"]
    if options.kgdb:
        arguments += ["-chardev", f"socket,id=kgdb,path={home}/kgdb,server=on,wait=off", "-serial", "chardev:kgdb"]
    # The owner uses the first monitor; `insitu lab dump`, `gdb` and `trace` the second.
    for monitor in ("qmp", "qmp2"):
        arguments += ["-qmp", f"unix:{home}/{monitor},server=on,wait=off"]
    arguments += ["-device", "virtio-serial-pci,max_ports=8"]
    arguments += ["-chardev", f"socket,id=terminal,path={home}/terminal,server=on,wait=off"]
    arguments += ["-device", "virtconsole,chardev=terminal,nr=0"]
    for number, port in enumerate(PORTS, start=1):
        arguments += ["-chardev", f"socket,id={port},path={home}/{port},server=on,wait=off"]
        arguments += ["-device", f"virtserialport,chardev={port},name=insitu.{port},nr={number}"]
    for disk in options.disks:
        arguments += ["-drive", f"file={escaped(disk.resolve())},format={_disk_format(disk)},if=virtio"]
    if options.net == "user":
        arguments += ["-nic", "user,model=virtio-net-pci"]
    # A restored guest gets a new generation id, on which its kernel reseeds its random number generator.
    return [*arguments, "-device", "vmcoreinfo", "-device", "vmgenid,guid=auto"]


def boot_memory(options: Options, transport: str) -> list[str]:
    """The arguments for memory to boot with. virtiofsd accesses the guest's memory, which must then be shareable."""
    if options.numa == 1 and transport != "virtiofs":
        return []
    backend = "memory-backend-memfd,share=on" if transport == "virtiofs" else "memory-backend-ram"
    return _nodes(options, [backend] * options.numa)


def snapshot_memory(options: Options, directory: Path, *, share: bool) -> list[str]:
    """The arguments for memory in files of ``directory``: shared to make a snapshot, else private (copy on write)."""
    mode = "on" if share else "off"
    home = escaped(directory)
    return _nodes(
        options, [f"memory-backend-file,share={mode},mem-path={home}/ram{number}" for number in range(options.numa)]
    )


def _nodes(options: Options, backends: list[str]) -> list[str]:
    size = parse_size(options.memory) >> 20
    arguments = []
    for number, backend in enumerate(backends):
        # The last node gets the remainder of the division.
        share = size // options.numa + (size % options.numa if number == options.numa - 1 else 0)
        arguments += ["-object", f"{backend},id=ram{number},size={share}M"]
        if options.numa == 1:
            return [*arguments, "-machine", "memory-backend=ram0"]
        first, last = number * options.cpus // options.numa, (number + 1) * options.cpus // options.numa - 1
        arguments += ["-numa", f"node,nodeid={number},memdev=ram{number},cpus={first}-{last}"]
    return arguments


def shares(options: Options) -> list[tuple[str, Path, bool]]:
    """This machine's directories that the guest mounts: tag, path, and whether it may write there."""
    return [("root", Path("/"), False), *((f"rw{n}", path.resolve(), True) for n, path in enumerate(options.rw))]


def _sockets(options: Options) -> str:
    """The value of -smp: the CPUs of a socket share a cache, so each NUMA node is a socket."""
    if options.numa == 1:
        return str(options.cpus)
    sockets = options.numa if options.cpus % options.numa == 0 else options.cpus
    return f"{options.cpus},sockets={sockets},cores={options.cpus // sockets}"


def escaped(path: Path) -> str:
    """A path as a value in QEMU's option syntax, where a comma ends the value and two commas stand for one."""
    return str(path).replace(",", ",,")


def _disk_format(disk: Path) -> str:
    with disk.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
