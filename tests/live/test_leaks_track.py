"""insitu leaks --track: the blocks that a program says it loses, by the functions that lose them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import insitu
from insitu.inspect.heap.preloaded import LIBRARY

PRELOADED = pytest.mark.skipif(not LIBRARY.exists(), reason="make setup has not built the library")

# Each function loses blocks of its own size, which glibc rounds up to 104, 200 and 296.
_PROGRAM = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))
static void *kept[64];

static APART void *block(size_t size) { return memset(malloc(size), 1, size); }
static APART void lose_small(void) { block(100); }
static APART void lose_middle(void) { memset(realloc(block(40), 200), 1, 200); }
static APART void keep(int at) { kept[at] = calloc(1, 290); }
static APART void none(void) { free(block(100)); }

static void turn(int at) { lose_small(); lose_small(); lose_middle(); keep(at); none(); }

int main(int count, char **words)
{
	char byte;
	int turns = atoi(words[1]);
	turn(0);
	while (count > 2 && read(0, &byte, 1) == 1 && byte == '\\n')
		turn(1), write(1, "turned\\n", 7);
	for (int at = 0; at < turns; at++)
		turn(2 + at);
	return 6;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("track")
    (directory / "loses.c").write_text(_PROGRAM)
    flags = ["-g", "-O0", "-w", "-fno-builtin"]
    subprocess.run(["gcc", *flags, "-o", directory / "loses", directory / "loses.c"], check=True)
    return directory / "loses"


@pytest.fixture
def waiting(program: Path) -> "Iterator[subprocess.Popen[str]]":
    command = [program, "0", "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _leaks(*words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "insitu", "leaks", "--track", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _by_function(document: Any, *kinds: str) -> dict[str, tuple[int, int]]:
    """Of some classes: function that allocates, itself or by block() -> bytes and blocks."""
    found: dict[str, tuple[int, int]] = {}
    for each in document["stacks"]:
        if each["kind"] in kinds:
            name = next(frame["function"] for frame in each["stack"] if frame["function"] != "block")
            size, blocks = found.get(name, (0, 0))
            found[name] = (size + each["bytes"], blocks + each["blocks"])
    return found


@pytest.mark.parametrize("way", [(), pytest.param(("--preload",), marks=PRELOADED)])
def test_each_lost_block_of_a_command_has_the_stack_that_allocated_it(
    program: Path, tmp_path: Path, way: tuple[str, ...]
) -> None:
    run = _leaks(*way, "--json", "--show", "all", "-o", tmp_path / "run.insitu", "--", program, 20)
    document = json.loads(run.communicate(timeout=120)[0])
    assert run.returncode == 6
    lost = _by_function(document, "definitely lost")
    assert lost == {"lose_small": (42 * 104, 42), "lose_middle": (21 * 200, 21)}
    assert _by_function(document, "still reachable") == {"keep": (21 * 296, 21)}
    with insitu.open(tmp_path / "run.insitu") as session:
        asked = session.sql(
            "select asked_bytes, count(*) from heap_block where stack > 0 group by all order by 1"
        ).rows()
        stacks = session.stacks()
    assert asked == [(100, 42), (200, 21), (290, 21)]
    assert stacks.table == "heap_block" and stacks.unit == "bytes"
    assert stacks.weight.sum() == 42 * 104 + 21 * 200 + 21 * 296


def test_of_a_running_process_what_is_older_than_the_tracking_has_no_stack(
    waiting: "subprocess.Popen[str]",
) -> None:
    assert waiting.stdin is not None and waiting.stdout is not None
    run = _leaks("--json", "--show", "all", waiting.pid)
    assert run.stderr is not None and "allocations are traced" in run.stderr.readline()
    begin = time.monotonic_ns()
    for _ in range(3):
        waiting.stdin.write("\n")
        waiting.stdin.flush()
        assert waiting.stdout.readline() == "turned\n"
    run.send_signal(signal.SIGINT)
    document = json.loads(run.communicate(timeout=120)[0])
    assert run.returncode == 0
    passed = time.monotonic_ns() - begin
    # What a stack or register still holds by chance is not lost.
    kinds = [each["kind"] for each in document["classes"]]
    expected = {"lose_small": (6 * 104, 6), "lose_middle": (3 * 200, 3), "keep": (3 * 296, 3)}
    assert _by_function(document, *kinds) == expected
    assert _by_function(document, "definitely lost")["lose_small"][1] >= 5
    before = sum(each["blocks"] for each in document["groups"] if each["size"] in (104, 200, 296))
    assert before == (2 + 1 + 1) + 3 * (2 + 1 + 1)
    assert all(0 < each["newest_ns"] <= each["oldest_ns"] < passed for each in document["stacks"])
    assert waiting.poll() is None


def test_the_difference_of_two_moments_is_what_the_program_has_done_between(
    waiting: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert waiting.stdin is not None and waiting.stdout is not None
    for name, turns in (("first", 2), ("second", 5)):
        for _ in range(turns):
            waiting.stdin.write("\n")
            waiting.stdin.flush()
            assert waiting.stdout.readline() == "turned\n"
        command = [sys.executable, "-m", "insitu", "leaks", "-q", "-o", tmp_path / f"{name}.insitu", str(waiting.pid)]
        subprocess.run(command, check=True, capture_output=True)
    command = [sys.executable, "-m", "insitu", "diff", tmp_path / "first.insitu", tmp_path / "second.insitu"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    document = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout)
    grown = {}
    for each in document["groups"]:
        blocks, size = (each["after"][what] - each["before"][what] for what in ("blocks", "bytes"))
        grown[each["size"]] = tuple(map(sum, zip(grown.get(each["size"], (0, 0)), (blocks, size), strict=True)))
    assert grown == {104: (10, 10 * 104), 200: (5, 5 * 200), 296: (5, 5 * 296)}
    sums = [sum(each[side]["bytes"] for each in document["classes"]) for side in ("before", "after")]
    assert sums[1] - sums[0] == 10 * 104 + 5 * 200 + 5 * 296
    assert shown.startswith("blocks of malloc(): ") and "0x101010101010101" in shown
