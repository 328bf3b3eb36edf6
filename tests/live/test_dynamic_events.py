"""Variables of a program at functions and source lines, by uprobes, against what the program itself prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.kernel.tracefs import Tracefs
from insitu.record.ftrace.user_code import UserCode

SOURCE = r"""
#include <stdio.h>
struct point { int x, y; int sizes[3]; unsigned low : 3, high : 7; const char *names[2]; };
static int total = 5;
__attribute__((noinline)) long work(int n, const char *name, struct point *at)
{
    long sum = 0;
    for (int i = 0; i < n; i++) {
        long square = (long)i * i;
        sum += square + at->y;
        printf("line i=%d sum=%ld square=%ld at_y=%d total=%d\n", i, sum, square, at->y, total);
        at->sizes[1] += i, at->low = i, at->high = 100 + i;
        printf("part i=%d at_sizes={%d,%d,%d}", i, at->sizes[0], at->sizes[1], at->sizes[2]);
        printf(" at_sizes_1=%d at_low=%u at_high=%u", at->sizes[1], at->low, at->high);
        printf(" at_names_1=\"%s\"\n", at->names[1]);
        total += i;
    }
    return sum;
}
int main(int argc, char **argv)
{
    struct point at = { argc, 7, { -5, 6, 7 }, 0, 0, { "a", "b c" } };
    for (int n = -1; n < 4; n++) {
        printf("call n=%d name=\"%s\"\n", n, argv[0]);
        printf("returned retval=%ld\n", work(n, argv[0], &at));
    }
    return 0;
}
"""
PRINTED, CHANGED = 11, 16  # the line of the first printf, and the one after those of parts


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dynamic")
    (made / "work.c").write_text(SOURCE)
    for name, level in (("plain", "-O0"), ("fast", "-O2")):
        subprocess.run(["gcc", "-g", level, "-o", name, "work.c"], cwd=made, check=True)
    return made


def _events(program: Path, *probes: str) -> tuple[list[str], list[str]]:
    """What the program printed, and the fields of the events, each in the order of their times."""
    words = [word for each in probes for word in ("--probe", each)]
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "events", "-q", *words, "--", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"^(?:line|part|call|returned) (.*)$", done.stdout, re.MULTILINE)
    return printed, re.findall(r"^ .*: +\([^)]*\) (.*)$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["plain", "fast"])
def test_parameters_and_results_are_those_that_the_program_has(directory: Path, name: str) -> None:
    program = directory / name
    printed, found = _events(program, f"uprobe:{program}:work n name", f"uretprobe:{program}:work retval")
    assert found == [each for each in printed if not each.startswith("i=")]


def test_local_variables_at_a_line_are_those_that_the_program_prints_there(directory: Path) -> None:
    program = directory / "plain"
    printed, found = _events(program, f"uprobe:{program}:work.c:{PRINTED} i sum square at->y")
    assert len(found) == 6
    assert found == [each.partition(" total")[0] for each in printed if " total=" in each]


def test_elements_of_arrays_and_bit_fields_are_those_that_the_program_prints(directory: Path) -> None:
    program = directory / "plain"
    parts = "i at->sizes at->sizes[1] at->low at->high at->names[1]"
    printed, found = _events(program, f"uprobe:{program}:work.c:{CHANGED} {parts}")
    assert len(found) == 6
    assert found == [each for each in printed if "at_low" in each]


def test_a_static_variable_is_fetched_from_its_own_memory(directory: Path) -> None:
    program = directory / "plain"
    code = UserCode(str(program))
    ((address, _),) = code.places(f"work.c:{PRINTED}")
    assert "total" not in [each.name for each in code.scope(address).variables]  # of the file, not the function


def test_no_event_is_left(directory: Path) -> None:
    _events(directory / "plain", f"uprobe:{directory / 'plain'}:work *")
    tracefs = Tracefs.open()
    try:
        assert str(directory) not in tracefs.read("dynamic_events")
    finally:
        tracefs.close()


def test_perf_sees_the_same_variables(directory: Path) -> None:
    program = directory / "plain"
    code = UserCode(str(program))
    _, lines = code.lines("work")
    first = lines[0].number
    compared = 0
    for line in lines[2::2]:
        if line.address is None or not line.text.strip().strip("{}"):
            continue
        judge = subprocess.run(
            [
                "unshare",
                "-m",
                "perf",
                "probe",
                "-x",
                program,
                "-V",
                f"work:{line.number - first}",
            ],  # it mounts tracefs
            capture_output=True,
            text=True,
        )
        if judge.returncode:
            continue
        scope = code.scope(line.address)
        ours = {each.name for each in scope.variables if code.is_visible(scope, each, line.address)}
        assert ours == set(re.findall(r"^\t\t.*\t(\w+)$", judge.stdout, re.MULTILINE))
        compared += 1
    assert compared >= 3


def test_a_wrong_name_ends_before_the_program_runs(directory: Path) -> None:
    words = ["events", "--probe", f"uprobe:{directory / 'plain'}:work nn", "--", "echo", "ran"]
    done = subprocess.run([sys.executable, "-m", "insitu", *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert "work has no variable 'nn' there; did you mean 'n'?" in done.stderr
    assert "ran" not in done.stdout


@pytest.mark.skipif(Path("/sys/bus/event_source/devices/kprobe").exists(), reason="this kernel has kprobes")
@pytest.mark.parametrize("spec", ["kprobe:vfs_read", "kretprobe:vfs_read"])
def test_a_kernel_without_kprobes_is_named_as_such(spec: str) -> None:
    words = [sys.executable, "-m", "insitu", "events", "--probe", spec, "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "CONFIG_KPROBE_EVENTS" in done.stderr and "Invalid argument" not in done.stderr
