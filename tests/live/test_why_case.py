"""The case of docs/cases about wall time: its very programs differ where the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PAGE = Path(__file__).parents[2] / "docs/cases/two-writers.md"


def _causes(directory: Path, program: str) -> list[Any]:
    """What `insitu why` finds of a writer of 200 blocks, without what other programs on the machine took from it."""
    why = [sys.executable, "-m", "insitu", "why", "-o", f"{program}.insitu"]
    subprocess.run([*why, "-q", "--", f"./{program}", "data", "200"], cwd=directory, check=True)
    found = subprocess.run([*why[:4], "--json", f"{program}.insitu"], cwd=directory, check=True, capture_output=True)
    return [cause for cause in json.loads(found.stdout)["causes"] if cause["state"] != "runnable"]


def test_the_slower_of_two_direct_writers_prepares_its_blocks_anew(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("O_DIRECT: not on this file system")
    ran = {}
    for name, content in re.findall(r"`(\w+)\.c`:\n\n```c\n(.*?)```", _PAGE.read_text(), re.DOTALL):
        (tmp_path / f"{name}.c").write_text(content)
        flags = ["-g", "-O1", "-fno-omit-frame-pointer"]
        subprocess.run(["gcc", *flags, "-o", name, f"{name}.c"], cwd=tmp_path, check=True)
        causes = _causes(tmp_path, name)
        assert any(cause["call"] == "pwrite64" and cause["object"] == str(tmp_path / "data") for cause in causes)
        ran[name] = {
            place: sum(
                cause["ns"] for cause in causes if cause["state"] in ("user", "kernel") and place in cause["place"]
            )
            for place in ("main()", "prepare()")
        }
    assert ran["same"]["prepare()"] == 0
    assert ran["anew"]["prepare()"] > ran["same"]["main()"]
