"""Hardware acceleration, only where a kernel has been seen to boot with it: a /dev/kvm that hangs exists."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

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
    """``kvm`` when a kernel boots with it within five seconds, else ``tcg``. Asked once per boot of this machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    answer = cache_directory("lab") / "accelerator.json"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        known = json.loads(answer.read_text())
        if known["boot"] == boot and known["accelerator"] in ("kvm", "tcg"):
            return str(known["accelerator"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = "kvm" if _boots(kernel) else "tcg"
    partial = answer.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"boot": boot, "accelerator": found}))
    partial.rename(answer)
    return found


def _boots(kernel: Kernel) -> bool:
    """Whether a guest with -accel kvm says that it is alive, in a process of its own that may hang for good."""
    with tempfile.TemporaryDirectory(prefix="insitu-kvm-") as scratch:
        image = Path(scratch) / "initramfs"
        console = Path(scratch) / "console"
        image.write_bytes(initramfs.minimal(_INIT))
        probe = subprocess.Popen(
            [
                *(qemu_program(), *_MACHINE.split(), "-serial", f"file:{console}"),
                *("-kernel", kernel.bootable, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1"),
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
            # Not wait(): a process that hangs inside /dev/kvm does not even die.
            deadline = time.monotonic() + 1
            while probe.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        return alive
