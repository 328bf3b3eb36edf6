"""Runs scripts of the probe language, in this process or by the command line; what processes hold, and waiting."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import insitu

__all__ = ["bpf_objects", "cpu_seconds", "known_program", "run_trace", "values_at_begin", "wait_until"]

_PROGRAM = r"""
#include <unistd.h>
int number = 77;
short small = -5;
char text[] = "in memory";
unsigned char bytes[6] = {0x02, 0, 0x5e, 0x10, 0, 0xff};
char *words[] = {"one", "two", "three", 0};
#define SEEN __attribute__((noinline))
SEEN long eight(long a, long b, long c, long d, long e, long f, long g, long h)
{
    __asm__ volatile("");
    return a + h;
}
SEEN void inner(void *p, void *q) { __asm__ volatile(""); getppid(); }
SEEN void outer(void) { inner(bytes, words); __asm__ volatile(""); }
int main(void)
{
    *(volatile char *)words[0]; /* a page that nobody touched cannot be read */
    outer();
    return eight(1, 2, 3, 4, 5, 6, 700, 800) == 801 ? 0 : 1;
}
"""


def known_program(directory: Path) -> Path:
    """A program that calls functions of known names with known values; its variables have known contents."""
    (directory / "it.c").write_text(_PROGRAM)
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *flags, "-o", directory / "it", directory / "it.c"], check=True)
    return directory / "it"


def values_at_begin(*expressions: str, **options: Any) -> list[Any]:
    """What the expressions are at the beginning of a script, which is run by this very process."""
    script = f"BEGIN {{ {' '.join(f'print({each});' for each in expressions)} exit(); }}"
    return list(insitu.trace(script, **options).events())


def run_trace(
    *words: str, status: int = 0, env: dict[str, str] | None = None, quiet: bool = True
) -> subprocess.CompletedProcess[str]:
    """`insitu trace -q WORDS` (without -q unless ``quiet``), which has to end with this status."""
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "trace", *(["-q"] if quiet else []), *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == status, done.stderr
    return done


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what nothing else can wait for; pytest's time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.01)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, in user and kernel mode; also of one that has ended and is not reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bpf_objects(pid: int) -> set[tuple[str, int]]:
    """The BPF programs, maps and links that a process has open, as (kind, id): others here have their own."""
    found = set()
    for information in Path(f"/proc/{pid}/fdinfo").iterdir():
        for kind, number in re.findall(r"^(prog|map|link)_id:\t(\d+)$", information.read_text(), re.MULTILINE):
            found.add((kind, int(number)))
    return found
