"""The cases of docs/cases about counts: their very programs count what their pages say."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PAGES = Path(__file__).parents[2] / "docs/cases"
_STAT = [sys.executable, "-m", "insitu", "stat"]
_PAGES_OF_16_MIB = 16 * 256
_SAVED = 511  # faults, by each huge page


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs of the pages, compiled as they say."""
    directory = tmp_path_factory.mktemp("cases")
    for page, name in (("pages-touched", "touch"), ("four-ways-to-clear", "clear")):
        text = (_PAGES / f"{page}.md").read_text()
        source = re.findall(r"```c\n(.*?)```", text, re.DOTALL)[0]
        [flags] = re.findall(rf"^\$ gcc (.*)-o {name} ", text, re.MULTILINE)
        (directory / f"{name}.c").write_text(source)
        subprocess.run(["gcc", *flags.split(), "-o", name, f"{name}.c"], cwd=directory, check=True)
    return directory


def _faults(programs: Path, *words: str) -> int:
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    command = [*fixed, *_STAT, "--json", "-e", "page-faults:u", "--", "./touch", *words]
    done = subprocess.run(command, cwd=programs, capture_output=True, text=True, timeout=60)
    if done.returncode and "setarch" in done.stderr:
        pytest.skip("addresses cannot be fixed here")
    assert done.returncode == 0, done.stderr
    return int(float(json.loads(done.stderr)["counter-value"]))


def test_each_page_that_is_touched_is_one_fault(programs: Path) -> None:
    assert _faults(programs, "16", "small") - _faults(programs, "00", "small") == _PAGES_OF_16_MIB


def test_each_huge_page_saves_511_faults(programs: Path) -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("no transparent huge pages")
    taken = _faults(programs, "16", "huge") - _faults(programs, "00", "huge")
    saved = _PAGES_OF_16_MIB - taken
    if not saved:
        pytest.skip("no huge page was free")
    assert saved % _SAVED == 0 and 1 <= saved // _SAVED <= 8


def test_two_ways_to_clear_are_compared_in_every_quantity(programs: Path) -> None:
    command = [*_STAT, "--json", "-r", "3", "-e", "task-clock,page-faults", "--compare", "./clear bytes 5"]
    done = subprocess.run(
        [*command, "--", "./clear", "string", "5"],
        cwd=programs,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stderr)
    assert found["commands"] == ["./clear bytes 5", "./clear string 5"]
    assert [each["name"] for each in found["measures"]] == ["elapsed", "user", "sys", "task-clock", "page-faults"]
    assert all(len(each[side]) == 3 for each in found["measures"] for side in ("first", "second"))
    # Three runs are too few for a verdict, which is said instead of one.
    assert found["text"] == "too few runs to compare B with A: -r 7 or more"
    faults = found["measures"][-1]
    assert not faults["verdict"]["differs"]
    assert all(256 < count < 600 for count in (*faults["first"], *faults["second"]))
