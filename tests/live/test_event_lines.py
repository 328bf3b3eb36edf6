"""`insitu events` prints stacks of programs with the functions that they are in."""

import re
import subprocess
import sys
from pathlib import Path

_GETPPID = 110
_PROGRAM = """
#include <unistd.h>
#include <sys/syscall.h>
__attribute__((noinline)) long inner(void) { long r = syscall(SYS_getppid); __asm__ volatile(""); return r + 1; }
__attribute__((noinline)) long outer(void) { long r = inner(); __asm__ volatile(""); return r + 1; }
int main(void) { return outer() < 0; }
"""


def test_user_stacks_are_functions_though_the_program_has_ended_when_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(_PROGRAM)
    program = str(tmp_path / "p")
    subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", "-o", program, str(tmp_path / "p.c")], check=True)
    options = ["-e", "raw_syscalls:sys_enter", "-F", f"id == {_GETPPID}", "--user-stack"]
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "events", *options, "--", program],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    functions = re.findall(r"^ => (\w+)\+0x[0-9a-f]+$", done.stdout, re.MULTILINE)
    assert done.stdout.count("sys_enter:") == 1
    # libc's syscall() has no frame: the innermost caller that is found may be one further out.
    assert [name for name in functions if name in ("outer", "main")] == ["outer", "main"]


def test_what_cannot_be_printed_by_the_end_of_the_time_is_counted() -> None:
    """The printing is slowed to some 2,000 events a second; what is printed and what is not are all calls."""
    calls = 40_000
    slow = (
        "import sys, time; from insitu import cli; from insitu.views.trace_lines import TraceLines\n"
        "add = TraceLines.add\n"
        "TraceLines.add = lambda self, pages, until_ns: (add(self, pages, until_ns), time.sleep(bool(pages)))\n"
        "sys.exit(cli.main())"
    )
    options = ["-e", "raw_syscalls:sys_enter", "-F", f"id == {_GETPPID}", "-b", "32M", "-d", "3"]
    target = [sys.executable, "-S", "-c", f"import os, time\nfor _ in range({calls}): os.getppid()\ntime.sleep(600)"]
    done = subprocess.run(
        [sys.executable, "-c", slow, "events", *options, "--", *target], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(
        r"insitu: the time is over: (\d+) events not shown \(-o NAME.insitu records all\)\n", done.stderr
    )
    assert said, done.stderr
    assert done.stdout.count(" sys_enter: ") + int(said[1]) == calls
