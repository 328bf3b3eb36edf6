"""Guests for tests: kernels are fetched once into the cache; a guest is continued from a snapshot, and shared."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab import Guest, Options
from insitu.lab import guest as boot
from insitu.lab.directories import cache_directory
from insitu.lab.guests.snapshot import start_fast
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.kernel import Kernel

_HERE = Path(__file__).parent
# Seconds. A time limit is for hangs alone: the guests' CPUs are emulated, on a machine that may have other work.
_LIMIT = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One time limit for all tests with guests."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(_LIMIT), append=False)


@cache
def _fetched(name: str) -> Kernel:
    """A kernel in the cache. Nothing is skipped when it cannot be had: CI fails when the lab cannot boot."""
    with (cache_directory("kernels") / ".tests").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that run tests fetch it once
        return fetch(name)


@pytest.fixture(scope="session")
def kernel_6_1() -> Kernel:
    """Debian's 6.1."""
    return _fetched("6.1")


class Guests:
    """The shared guests of this process, by kernel: started when first asked for, and again after their end."""

    def __init__(self) -> None:
        self._running: dict[str, Guest] = {}
        self._end = ExitStack()

    def running(self, kernel: str) -> Guest:
        """A guest with two CPUs and 1 GiB that runs commands."""
        known = self._running.get(kernel)
        if known is None or not _lives(known):
            known = Guest(_fetched(kernel), Options(cpus=2, memory="1G", boot_timeout=300))
            self._end.enter_context(known.started(lambda: start_fast(known)))
            self._running[kernel] = known
        return known

    def close(self) -> None:
        """End all of them."""
        self._end.close()


def _lives(guest: Guest) -> bool:
    try:
        return guest.run(["true"], timeout=300).status == 0
    except InsituError:  # what killed it has been reported by the test that was running
        return False


@pytest.fixture(scope="session")
def guests() -> Iterator[Guests]:
    """The guests that all tests of this process share."""
    made = Guests()
    yield made
    made.close()


@pytest.fixture(params=["6.1", "6.12"])
def guest(request: pytest.FixtureRequest, guests: Guests) -> Guest:
    """A guest under each of Debian's kernels, shared: a test leaves nothing running, and no file at a fixed path."""
    return guests.running(request.param)


@pytest.fixture(scope="module")
def shared_guest(kernel_6_1: Kernel) -> Iterator[Guest]:
    """A guest under Debian's 6.1 with two CPUs in two NUMA nodes, shared by the tests of a module."""
    with boot(kernel="6.1", cpus=2, memory="1G", numa=2, boot_timeout=300) as running:
        yield running


@pytest.fixture(scope="session")
def fetched() -> Callable[[str], Kernel]:
    """The function that has a kernel in the cache, by its short name."""
    return _fetched
