"""The memory of a process on kernels with and without PAGEMAP_SCAN (Linux 6.7), and in the swap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from insitu.lab.guests.guest import Guest

_ROOT = Path(__file__).parents[1]


def test_sums_are_the_kernels_also_of_what_is_swapped(guest: Guest, tmp_path: Path) -> None:
    program = tmp_path / "areas"
    source = _ROOT / "live/memory_programs/areas.c"
    subprocess.run(["gcc", "-static", "-pthread", "-o", program, source], check=True)
    script = _ROOT / "lab/tools/memory_sums.py"
    done = guest.run([sys.executable, str(script), str(program), "/tmp/insitu-memory-sums"])
    guest.run(["rm", "-f", "/tmp/insitu-memory-sums"])
    assert done.status == 0, done.stderr.decode()
    found: Any = json.loads(done.stdout.splitlines()[-1])
    for moment in ("before", "after"):
        for name, (ours, kernel) in found[moment].items():
            assert ours == kernel, (moment, name)
    # The child has made five of the twenty pages its own, so that five are this process's alone.
    assert found["before"]["swapped"][0] == 0 and found["after"]["swapped"][0] == 5 * 4096
    assert found["runs"] == [[5, "swapped"], [15, "shared, anonymous"]]
