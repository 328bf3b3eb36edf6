"""The kernel that most of these tests run on: 6.1 with all latency tracers, built once."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.lab import Guest, guest
from insitu.lab.build.build_kernel import build
from insitu.lab.kernels.kernel import Kernel

_MODULE = Path(__file__).parent / "long_sections"
# QEMU 7.2 emulates AVX2 wrongly.
ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}


def shell(running: Guest, script: str) -> str:
    """What a script prints in the guest."""
    done = running.run(["sh", "-c", script], env=ENVIRONMENT, timeout=600)
    assert done.status == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="session")
def latency_kernel() -> Kernel:
    return build("6.1", ["irqsoff", "latency"], report=print)


@pytest.fixture(scope="session")
def module(latency_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module with long sections, built against what `insitu lab build` keeps."""
    directory = tmp_path_factory.mktemp("module")
    for source in ("Makefile", "long_sections.c"):
        (directory / source).write_bytes((_MODULE / source).read_bytes())
    command = ["make", "-C", str(latency_kernel.build), f"M={directory}", "modules"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return directory / "long_sections.ko"


@pytest.fixture(scope="session")
def latency_guest(latency_kernel: Kernel, module: Path) -> Iterator[Guest]:
    """One CPU, so that whoever is woken has to wait for the waker; its watchdog would wake tasks of its own."""
    with guest(kernel=latency_kernel.name, cpus=1, append="nowatchdog") as running:
        shell(running, f"insmod {module}")
        yield running
