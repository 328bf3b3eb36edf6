"""The built-in programs on Debian's kernels: each reports what is provoked, as many as an independent counter has.

What is provoked, and compared with what, is in tests/live/program_checks.py, which runs in a guest here.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.kernels import LONG_TESTS
from tests.live.program_checks import CHECKS, SYSTEM_WIDE

from insitu.lab import guest as boot

_CHECKS = Path(__file__).parents[1] / "live/program_checks.py"


@pytest.fixture(scope="module", params=LONG_TESTS)
def failures(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fetched: Callable[[str], Any]
) -> dict[str, str]:
    """What failed in a guest, by program; nothing where a program was right."""
    shared = tmp_path_factory.mktemp("programs")
    results, disk = shared / "results.json", tmp_path_factory.mktemp("disk") / "disk"
    disk.write_bytes(bytes(64 << 20))
    fetched(request.param)
    with boot(kernel=request.param, memory="1G", disks=(disk,), rw=(shared,), boot_timeout=300) as guest:
        # QEMU 7.2 emulates AVX2 wrongly.
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
        done = guest.run([sys.executable, _CHECKS, results], env=environment)
        assert done.status == 0, done.stderr.decode()
    found: dict[str, str] = json.loads(results.read_text())
    return found


@pytest.mark.parametrize("name", [*CHECKS, *SYSTEM_WIDE])
def test_a_program_reports_what_was_provoked(failures: dict[str, str], name: str) -> None:
    assert failures[name] == ""
