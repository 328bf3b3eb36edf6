"""insitu leaks --track -- COMMAND by the preloaded library: each block that a program keeps has its stack."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.inspect.heap.preloaded import LIBRARY

__all__ = ["unprivileged"]

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="make setup has not built the library")

# Sizes are a function's own: the blocks that it keeps are those of its size.
_PROGRAM = r"""
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))
void *kept[400000];
static int used;

static APART void keep(void *block) { kept[__atomic_fetch_add(&used, 1, __ATOMIC_RELAXED)] = block; }
static APART void by_malloc(void) { keep(malloc(1000)); free(malloc(1000)); }
static APART void by_calloc(void) { keep(calloc(3, 1000)); }
static APART void by_realloc(void) { keep(realloc(malloc(10), 5000)); }
static APART void by_reallocarray(void) { keep(reallocarray(0, 6, 1000)); }
static APART void by_memalign(void) { keep(memalign(64, 7000)); }
static APART void by_aligned_alloc(void) { keep(aligned_alloc(64, 8000)); }
static APART void by_posix_memalign(void) { void *block; posix_memalign(&block, 64, 9000); keep(block); }
static APART void by_strdup(void) { static char text[10000]; keep(strdup(memset(text, 'x', 9999))); }
static APART void resized_in_vain(void)
{
	void *block = malloc(11000);
	volatile size_t most = PTRDIFF_MAX;
	errno = 0;
	if (realloc(block, most) || errno != ENOMEM)
		exit(9);
	keep(block);
}
static APART void resized_to_nothing(void) { realloc(malloc(12000), 0); }

static void all(void)
{
	by_malloc(), by_calloc(), by_realloc(), by_reallocarray(), by_memalign(), by_aligned_alloc();
	by_posix_memalign(), by_strdup(), resized_in_vain(), resized_to_nothing();
}

static APART void *thread(void *unused)
{
	for (int at = 0; at < 10000; at++) {
		void *block = malloc(1000);
		if (at % 100)
			free(block);
		else
			keep(block);
	}
	return 0;
}

int main(int count, char **words)
{
	const char *what = words[1];
	if (!strcmp(what, "all")) {
		all();
	} else if (!strcmp(what, "threads")) {
		pthread_t threads[8];
		for (int at = 0; at < 8; at++)
			pthread_create(&threads[at], 0, thread, 0);
		for (int at = 0; at < 8; at++)
			pthread_join(threads[at], 0);
	} else if (!strcmp(what, "forks")) {
		by_malloc();
		for (int at = 0; at < 4; at++) {
			pid_t child = at % 2 ? fork() : syscall(SYS_fork);
			if (!child) {
				for (int each = 0; each < used; each++)
					free(kept[each]);
				all();
				_exit(0);
			}
			waitpid(child, 0, 0);
		}
		system(strcat(strcpy(malloc(4096), words[0]), " all"));
	} else if (!strcmp(what, "execs")) {
		all();
		execl(words[0], words[0], "many", "3", NULL);
	} else if (!strcmp(what, "many")) {
		for (int at = 0; at < atoi(words[2]); at++)
			by_malloc();
	} else if (!strcmp(what, "waits")) {
		by_malloc();
		pause();
	}
	return 4;
}
"""
_ALL = {
    "by_malloc": 1000,
    "by_calloc": 3000,
    "by_realloc": 5000,
    "by_reallocarray": 6000,
    "by_memalign": 7000,
    "by_aligned_alloc": 8000,
    "by_posix_memalign": 9000,
    "by_strdup": 10000,
    "resized_in_vain": 11000,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("preload")
    (directory / "keeps.c").write_text(_PROGRAM)
    # Without frame pointers: call frame information alone leads through the stack.
    flags = ["-g", "-O1", "-w", "-fno-builtin", "-fomit-frame-pointer", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", directory / "keeps", directory / "keeps.c"], check=True)
    return directory / "keeps"


def _leaks(*words: object, status: int = 4) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", "leaks", "--track", "--preload", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done


def _by_function(document: Any) -> dict[str, tuple[int, int]]:
    """Function of the program that allocates -> blocks, and usable bytes of each."""
    found: dict[str, tuple[int, int]] = {}
    for each in document["stacks"]:
        if any(frame["function"] in ("main", "thread") for frame in each["stack"]):
            name = next(frame["function"] for frame in each["stack"] if frame["file"].endswith("keeps.c"))
            blocks = found.get(name, (0, 0))[0] + each["blocks"]
            found[name] = (blocks, each["bytes"] // each["blocks"])
    return found


def _usable(size: int) -> int:
    """As glibc rounds it up: 16 bytes a chunk, of which 8 are its own."""
    return -(-(size + 8) // 16) * 16 - 8


def test_every_way_to_allocate_is_recorded_and_what_was_freed_is_not(program: Path) -> None:
    found = _by_function(json.loads(_leaks("--json", "--show", "all", "--", program, "all").stdout))
    assert found.keys() == _ALL.keys()
    for name, size in _ALL.items():
        blocks, usable = found[name]
        aligned = name in ("by_memalign", "by_aligned_alloc", "by_posix_memalign")  # what is cut off may be kept
        assert blocks == 1 and _usable(size) <= usable <= _usable(size) + 32 * aligned, name


def test_threads_that_allocate_at_once_lose_no_record(program: Path) -> None:
    found = _by_function(json.loads(_leaks("--json", "--show", "all", "--", program, "threads").stdout))
    assert found["thread"] == (800, _usable(1000))  # main() has tables of threads


def test_children_write_nothing_into_their_parents_record(program: Path) -> None:
    found = _by_function(json.loads(_leaks("--json", "--show", "all", "--", program, "forks").stdout))
    assert found.pop("main")[0] == 1
    assert found == {"by_malloc": (1, _usable(1000))}


def test_after_exec_the_new_program_is_recorded_alone(program: Path) -> None:
    found = _by_function(json.loads(_leaks("--json", "--show", "all", "--", program, "execs").stdout))
    assert found == {"by_malloc": (3, _usable(1000))}


def test_what_is_beyond_the_room_is_counted_and_the_rest_has_its_stack(program: Path) -> None:
    done = _leaks("--json", "--show", "all", "--max-memory", "4M", "--", program, "many", 3000)
    recorded = _by_function(json.loads(done.stdout))["by_malloc"][0]
    warning = next(line for line in done.stderr.splitlines() if "allocations are not known" in line)
    # by_malloc() allocates twice: the second block is freed, and is beyond the room when the first one is.
    unknown = int(warning.split(" of ")[1].split()[0].replace(",", ""))
    assert 0 < recorded < 3000 and 3000 - recorded <= unknown <= 2 * (3000 - recorded) + 64


def test_a_command_that_runs_is_looked_at_after_a_time(program: Path) -> None:
    found = _by_function(
        json.loads(_leaks("--json", "--show", "all", "-d", "0.5", "--", program, "waits", status=0).stdout)
    )
    assert found == {"by_malloc": (1, _usable(1000))}


def test_no_rights_are_needed(program: Path, unprivileged: Unprivileged) -> None:
    mine = shutil.copy(program, unprivileged.directory)
    done = unprivileged((), "leaks", "--track", "--json", "--show", "all", "--", mine, "many", "5")
    assert done.returncode == 4 and not done.stderr, done.stderr
    assert _by_function(json.loads(done.stdout)) == {"by_malloc": (5, _usable(1000))}


def test_what_cannot_be_recorded_is_refused_in_one_line(tmp_path: Path, program: Path) -> None:
    (tmp_path / "static.c").write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "static", tmp_path / "static.c"], check=True)
    done = _leaks("--", tmp_path / "static", status=1)
    assert "statically linked" in done.stderr and len(done.stderr.splitlines()) == 1
    done = _leaks("--", "sh", "-c", f"exec {tmp_path / 'static'}", status=1)
    assert len(done.stderr.splitlines()) == 1
    done = _leaks("1", status=1)
    assert "can only be traced by root" in done.stderr and len(done.stderr.splitlines()) == 1
    words = [sys.executable, "-m", "insitu", "leaks", "--preload", "--", program, "all"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "--preload is for --track" in done.stderr
