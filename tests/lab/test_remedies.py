"""What insitu tells users without privileges to do is tried: as the message says it, in a guest, by such a user."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.lab.tools.remedies import CASES

TOOL = Path(__file__).parent / "tools" / "remedies.py"


def test_every_remedy_that_a_refusal_names_works(guests: Any) -> None:
    root = str(Path(__file__).parents[2])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": root, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
    done = guests.running("6.12").run([sys.executable, TOOL], env=environment)
    assert done.status == 0, done.stderr.decode(errors="replace")
    found = {each["case"]: each for each in map(json.loads, done.stdout.decode().splitlines())}
    assert list(found) == list(CASES)
    said = {case: each["said"] for case, each in found.items()}
    assert {case: each["left"] for case, each in found.items() if each["left"]} == {}, said
    assert "kptr_restrict" not in said["names, hidden by paranoid"]
    assert "perf_event_paranoid" not in said["names, hidden by kptr_restrict"]
    assert all("kptr_restrict=0" in said[f"names, hidden by {by}"] for by in ("kptr_restrict", "both"))
    assert "run as root" not in said["names, hidden from all"]
