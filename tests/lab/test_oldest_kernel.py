"""The language on Linux 5.10, the oldest supported: no bpf_loop(), no walks over maps, no links of perf events.

Loops are walked by the verifier there. What the kernel lacks is said by the version that has it.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from tests.lab.conftest import Guests

_RUN = Path(__file__).parent / "tools/run_traces.py"
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_STATEMENTS = 1600
_LOOPS = """
fn triangle($n : int64) : int64 { $s = 0; for $i : 0..$n { $s += $i; } return $s; }
fn first_above($limit : int64) : int64 { for $i : 0..100 { if ($i * $i > $limit) { return $i; } } return -1; }
BEGIN {
    $i = 0; $even = 0; $cells = 0; $sum = 0;
    while ($i < 500) { $i++; if ($i % 2) { continue; } if ($i > 300) { break; } $even++; }
    for $x : 0..10 { for $y : 0..10 { $cells += $x * $y; } }
    for $x : 0..1000 { @at[$x % 7] = $x; $sum += @at[$x % 7]; }
    print(($i, $even, $cells, $sum, triangle(100), first_above(2000)));
    exit();
}
END { clear(@at); }
"""
# More branches than one program takes (_PART_BRANCHES of codegen/program.py): the body goes on in a second one.
_BRANCHES = "".join(f"if (nsecs == {number}) {{ $x = 0; }} $x++; " for number in range(_STATEMENTS))
_SPLIT = f"BEGIN {{ $x = 0; {_BRANCHES} print($x); exit(); }}"
_PROBES = """
kprobe:vfs_rea* /pid == cpid/ { @entered[func] = count(); }
kretprobe:vfs_rea* /pid == cpid/ { @returned[func] = count(); }
fentry:vfs_read /pid == cpid/ { @typed[args.count > 0] = count(); }
rawtracepoint:sys_enter /pid == cpid && args.id == 257/ { @opened = count(); }
END { clear(@typed); }
"""
_TRACES = {
    "loops": ["-e", _LOOPS],
    "split": ["-e", _SPLIT],
    "probes": ["-e", _PROBES, "--", "/bin/cat", "/dev/null"],
    "steps": ["-e", "BEGIN { @x = 10; print((@x++, ++@x, @x--, --@x)); clear(@x); @y[1]++; @y[1]++; exit(); }"],
    "walk": ["-e", "BEGIN { @m[1] = 2; for ($kv : @m) { print($kv); } exit(); }"],
    "len": ["-e", "BEGIN { @m[1] = 2; print(len(@m)); exit(); }"],
    "read": ["-e", "BEGIN { @c = count(); print((1, @c)); exit(); }"],
}


@pytest.fixture(scope="module")
def outputs(guests: Guests, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each trace printed in a guest under Debian 11's 5.10."""
    words = [sys.executable, str(_RUN), str(tmp_path_factory.mktemp("empty"))]
    done = guests.running("5.10").run(words, stdin=json.dumps(_TRACES).encode(), env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_loops_and_functions_run_without_bpf_loop(outputs: dict[str, str]) -> None:
    expected = (302, 150, sum(range(10)) ** 2, sum(range(1000)), sum(range(100)), 45)
    assert outputs["loops"].split("\n")[0] == str(expected)


def test_steps_have_values_without_fetching_atomics(outputs: dict[str, str]) -> None:
    assert [line for line in outputs["steps"].splitlines() if line] == ["(10, 12, 12, 10)", "@y[1]: 2"]


def test_a_body_that_is_too_long_for_one_program_is_split(outputs: dict[str, str]) -> None:
    assert outputs["split"].split() == [str(_STATEMENTS)]


def test_probes_of_functions_and_raw_tracepoints_see_the_same_calls(outputs: dict[str, str]) -> None:
    elements = dict(line.split(": ") for line in outputs["probes"].splitlines() if line.startswith("@"))
    # cat opens the loader's cache, libc and /dev/null at least, and reads libc's header.
    assert int(elements["@opened"]) >= 3
    assert elements["@entered[vfs_read]"] == elements["@returned[vfs_read]"] != "0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("walk", "a loop over a map needs Linux 5.13"),
        ("len", "len() of a map needs Linux 5.13"),
        ("read", "Linux 5.19 can read count(), sum() and the like in a script"),
    ],
)
def test_what_the_kernel_lacks_is_said_by_the_version_that_has_it(
    outputs: dict[str, str], name: str, message: str
) -> None:
    assert message in outputs[name] and "Traceback" not in outputs[name]
