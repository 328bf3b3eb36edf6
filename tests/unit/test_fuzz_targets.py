"""Every fuzz target of `make fuzz`, for a moment and with a fixed seed: targets and corpus work, and find nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.registry import CORPUS, TARGETS

_ROOT = Path(__file__).parent.parent.parent
# Of these an input takes up to a tenth of a second.
_SLOW = (
    *("dwarf_lines", "dwarf_types", "perf_directory", "session_raw", "session_tables", "session_types"),
    *("raw_records", "table_files", "table_types"),
)
_QUICK = [name for name in TARGETS if name not in _SLOW]


# In processes of their own: targets replace functions that would look at this machine.
@pytest.mark.parametrize(("names", "mutations"), [(_QUICK, 200), (_SLOW, 10)], ids=["quick", "slow"])
def test_mutated_inputs_end_in_a_result_or_in_one_line(names: list[str], mutations: int) -> None:
    words = [f"--target={name}" for name in names]
    options = [f"--mutations={mutations}", "--processes=1", "--seconds=600", "--seed=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", *words, *options], cwd=_ROOT, capture_output=True, text=True, env=environment
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert done.returncode == 0, done.stderr
    assert [(name, int(count)) for name, count, *_ in rows] == [(name, mutations) for name in names]


def test_the_corpus_is_small_and_has_inputs_for_every_target() -> None:
    assert all(target.inputs() for target in TARGETS.values())
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 300_000
