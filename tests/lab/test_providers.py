"""The live tests of probe kinds and of bpf(2), on kernels that have kprobes, fentry and multi links."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

LIVE = Path(__file__).parent.parent / "live"


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def outcomes(request: pytest.FixtureRequest, guests: Any) -> dict[str, list[tuple[str, str, str]]]:
    """What became of the tests in a guest: module -> (test, outcome, reason)."""
    modules = ("test_providers.py", "test_bpf.py")
    # Plugins that these tests do not use take an emulated CPU long to load.
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    # QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_XDIST")]:
        del environment[name]
    done = guests.running(request.param).run([*command, *(LIVE / module for module in modules)], env=environment)
    output = done.stdout.decode(errors="replace")
    assert done.status == 0, output + done.stderr.decode(errors="replace")
    found: dict[str, list[tuple[str, str, str]]] = {module: [] for module in modules}
    for module, test, outcome, reason in re.findall(
        r"(\w+\.py)::(\S.*?) (PASSED|SKIPPED|XFAIL|XPASS)(?: \((.*)\))?", output
    ):
        found[module].append((test, outcome, reason))
    return found


@pytest.mark.parametrize(
    ("module", "skipped"),
    [
        ("test_providers.py", ["test_without_kprobes_the_error_names_the_tracepoint_that_would_do"]),
        ("test_bpf.py", []),
    ],
    ids=["probe kinds", "maps and rings"],
)
def test_all_pass_and_only_what_is_for_kernels_without_kprobes_is_skipped(
    outcomes: dict[str, list[tuple[str, str, str]]], module: str, skipped: list[str]
) -> None:
    tests = [test for test, _, _ in outcomes[module]]
    written = re.findall(r"^def (test_\w+)", (LIVE / module).read_text(), re.MULTILINE)
    assert {test.partition("[")[0] for test in tests} == set(written)
    assert [test for test, outcome, _ in outcomes[module] if outcome != "PASSED"] == skipped
