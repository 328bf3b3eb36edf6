"""Test and bench probes: what passes, what is shown of it, and how long a benchmark takes."""

import os
import re
from pathlib import Path

import pytest

from .tracing import run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_SCRIPT = """
begin { @n = 5; }
test:okay { print("hidden"); errorf("hidden"); @kept = 1; }
test:failure { printf("shown %d\\n", @n); return -3; }
test:asserts { assert(@n == 6, "n is not six"); @never = 1; }
test:clears { @x[1] = 1; clear(@x); }
test:ends { exit(); }
bench:nothing { }
bench:loop { for $i : 0..1000 { @turns++; } }
bench:prints { print("hidden"); @runs = count(); }
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "it.bt").write_text(_SCRIPT)
    return str(tmp_path / "it.bt")


def test_tests_run_in_order_and_only_what_failed_prints(script: str) -> None:
    done = run_trace("--test", script, status=1)
    results, _, maps = done.stdout.partition("\n\n")
    assert results == "PASS okay\nshown 5\nFAIL failure: -3\nFAIL asserts: 1\nPASS clears\nPASS ends"
    assert maps.split() == ["@kept:", "1", "@n:", "5"]
    assert re.fullmatch(r".*it\.bt:5:\S+: ERROR: assertion failed: n is not six\n", done.stderr)


def test_tests_that_pass_are_a_success() -> None:
    assert run_trace("--test", "-e", "test:one { return 0; }").stdout.startswith("PASS one\n")


def test_benchmarks_are_timed_and_print_nothing_else(script: str) -> None:
    done = run_trace("--bench", script)
    found = dict(re.findall(r"^\| (\w+) +\| (\d+) +\|$", done.stdout, re.MULTILINE))
    assert list(found) == ["loop", "nothing", "prints"]
    assert int(found["loop"]) > 0
    assert "hidden" not in done.stdout
    # Each run has counted.
    runs = int(re.search(r"@runs: (\d+)", done.stdout)[1])  # type: ignore[index]
    assert runs >= 200
    assert int(re.search(r"@turns: (\d+)", done.stdout)[1]) % 1000 == 0  # type: ignore[index]


def test_without_the_option_they_are_left_out() -> None:
    done = run_trace("-e", 'begin { print("begun"); exit(); } test:a { print("never"); } bench:b { print("never"); }')
    assert done.stdout.split() == ["begun"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-e", "test:a { }"], "the script has test and bench probes only (run it with --test or --bench)"),
        (["--bench", "-e", "test:a { }"], "the script has no bench probes"),
        (["--test", "-e", "test { }"], "expected test:NAME"),
        (["--test", "--bench", "-e", "test:a { }"], "not allowed with argument --test"),
    ],
)
def test_what_cannot_be_run_is_said(words: list[str], message: str) -> None:
    status = 1 if "expected" in message else 2
    assert message in run_trace(*words, status=status).stderr
