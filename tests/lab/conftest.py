"""Guests for tests: fetched once into the cache, booted once per test module."""

from collections.abc import Iterator

import pytest

from insitu.lab import Guest, guest
from insitu.lab.fetch import fetch
from insitu.lab.kernel import Kernel

# A new checkout's first guest waits for the fetch of its kernel.
_FETCH_AND_BOOT_SECONDS = 300


@pytest.fixture(scope="session")
def kernel_6_1() -> Kernel:
    """Debian's 6.1, fetched unless the cache has it: CI fails when the lab cannot boot, so this never skips."""
    return fetch("6.1")


@pytest.fixture(scope="module")
def shared_guest(kernel_6_1: Kernel) -> Iterator[Guest]:
    """A 6.1 guest with two CPUs in two NUMA nodes, shared by the tests of a module."""
    with guest(kernel="6.1", cpus=2, memory="1G", numa=2, boot_timeout=_FETCH_AND_BOOT_SECONDS) as running:
        yield running
