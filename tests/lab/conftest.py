"""Guests for tests: kernels fetched once into the cache, a guest booted once per test module."""

from collections.abc import Iterator

import pytest

from insitu.lab import Guest, guest
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.kernel import Kernel

KERNELS = ("6.1", "6.12", "6.1-cloud")


@pytest.fixture(scope="session", autouse=True)
def fetched() -> dict[str, Kernel]:
    """The kernels that tests name. Nothing is skipped when they cannot be had: CI fails when the lab cannot boot."""
    return {name: fetch(name) for name in KERNELS}


@pytest.fixture(scope="session")
def kernel_6_1(fetched: dict[str, Kernel]) -> Kernel:
    """Debian's 6.1."""
    return fetched["6.1"]


@pytest.fixture(scope="module")
def shared_guest(kernel_6_1: Kernel) -> Iterator[Guest]:
    """A guest under Debian's 6.1 with two CPUs in two NUMA nodes, shared by the tests of a module."""
    with guest(kernel="6.1", cpus=2, memory="1G", numa=2, boot_timeout=120) as running:
        yield running
