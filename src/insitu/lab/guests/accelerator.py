"""The accelerator: KVM, but only after a kernel has booted with it, as there are machines whose /dev/kvm hangs."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from insitu.files import temporary_home, write_whole
from insitu.kernel import procfs
from insitu.lab.architecture import host_architecture
from insitu.lab.directories import cache_directory
from insitu.lab.guests.machine import qemu_program
from insitu.lab.kernels import initramfs
from insitu.lab.kernels.kernel import Kernel

__all__ = ["accelerator"]

_PROBE_SECONDS: Final = 5.0
_MACHINE: Final = "-accel kvm -cpu host -nodefaults -no-user-config -display none -no-reboot -m 256M"
_MARK: Final = b"insitu-lab: alive"
_INIT: Final = b"#!/bin/sh\necho insitu-lab: alive\n/bin/busybox poweroff -f\n"


def accelerator(kernel: Kernel) -> str:
    """``kvm`` if a kernel boots with it within five seconds, else ``tcg``. Tried once per boot of this machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    result = cache_directory("lab") / "accelerator.json"
    boot = procfs.boot_id()
    try:
        known = json.loads(result.read_text())
        if known["boot"] == boot and known["accelerator"] in ("kvm", "tcg"):
            return str(known["accelerator"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = "kvm" if _boots(kernel) else "tcg"
    write_whole(result, json.dumps({"boot": boot, "accelerator": found}).encode())
    return found


def _boots(kernel: Kernel) -> bool:
    """Whether a guest boots with -accel kvm, in a process that may hang for good."""
    with tempfile.TemporaryDirectory(prefix="insitu-kvm-", dir=temporary_home()) as scratch:
        image = Path(scratch) / "initramfs"
        console = Path(scratch) / "console"
        image.write_bytes(initramfs.minimal(_INIT))
        arguments = " ".join([*host_architecture().kernel_arguments, "quiet", "panic=-1"])
        probe = subprocess.Popen(
            [
                *(qemu_program(), *_MACHINE.split(), "-serial", f"file:{console}"),
                *("-kernel", kernel.bootable, "-initrd", image, "-append", arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _PROBE_SECONDS
        alive = False
        while not alive and time.monotonic() < deadline:
            ended = probe.poll() is not None
            alive = console.exists() and _MARK in console.read_bytes()
            if ended:
                break
            time.sleep(0.05)
        if probe.poll() is None:
            probe.kill()
            # Not wait(): a process that hangs in the kernel does not even react to SIGKILL.
            deadline = time.monotonic() + 1
            while probe.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        return alive
