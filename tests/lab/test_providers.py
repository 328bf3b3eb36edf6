"""The live tests of probe kinds and of bpf(2), on kernels that have kprobes, fentry and multi links."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.lab import Guest
from insitu.lab import guest as boot
from insitu.lab.kernels.fetch import fetch

LIVE = Path(__file__).parent.parent / "live"


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    fetch(request.param)  # unless the cache has it
    with boot(kernel=request.param, memory="1G") as guest:
        yield guest


@pytest.mark.timeout(600)
def test_every_probe_kind_counts_what_happened(guest: Guest) -> None:
    output = _pytest(guest, LIVE / "test_providers.py")
    skipped = "\n".join(line for line in output.splitlines() if line.startswith("SKIPPED"))
    assert re.fullmatch(r"SKIPPED \[1\] \S+ this kernel has kprobes", skipped), skipped


@pytest.mark.timeout(600)
def test_maps_and_rings_work(guest: Guest) -> None:
    assert "SKIPPED" not in _pytest(guest, LIVE / "test_bpf.py")


def _pytest(guest: Guest, tests: Path) -> str:
    """Run tests inside the guest; all must pass. Their output."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tests)]
    # QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
    done = guest.run(command, timeout=540, env=environment)
    output = done.stdout.decode(errors="replace")
    assert done.status == 0, output
    assert re.search(r"\d+ passed", output)
    return output
