"""insitu stacks of interpreters, JIT compilers and 32-bit programs, against what these say themselves."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from insitu.inspect.stacks import Thread, stacks
from insitu.symbols.frame import PYTHON

if os.geteuid() != 0:
    pytest.skip("needs root, for processes that it did not start", allow_module_level=True)


@contextmanager
def _running(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


_PYTHON = """
import faulthandler, sys, threading, time

class Work:
    def outer(self, function):
        self.inner(function)

    def inner(self, function):
        [function() for _ in range(1)]

def sleeps():
    time.sleep(1000)

def waits():
    lock.acquire()

lock = threading.Lock()
lock.acquire()
for function in (sleeps, waits):
    threading.Thread(target=Work().outer, args=(function,), daemon=True).start()
time.sleep(0.5)
faulthandler.dump_traceback(sys.stdout)
print("end", flush=True)
sys.stdin.read()
"""


def _python(thread: Thread) -> list[tuple[str, int]]:
    return [(frame.function.rpartition(".")[2], frame.line) for frame in thread.frames if frame.kind == PYTHON]


def test_python_functions_of_blocked_threads_are_faulthandlers(tmp_path: Path) -> None:
    (tmp_path / "works.py").write_text(_PYTHON)
    with _running([sys.executable, tmp_path / "works.py"]) as process:
        assert process.stdout is not None
        text = "".join(iter(process.stdout.readline, "end\n"))
        while Path(f"/proc/{process.pid}/wchan").read_text() == "0":
            time.sleep(0.01)
        found = stacks(process.pid).threads
        native = stacks(process.pid, python=False).threads
    # The main thread has gone on since.
    theirs = [
        [(name, int(line)) for line, name in re.findall(r"line (\d+) in (.*)$", part, re.M)]
        for part in re.split(r"\n(?=Thread|Current)", text)
        if part and not part.startswith("Current")
    ]
    assert sorted(map(_python, found[1:])) == sorted(theirs) and len(theirs) == 2
    assert _python(found[0]) == [("<module>", len(_PYTHON.rstrip().split("\n")))]
    # What they wait in is the C library's; what runs Python functions is not shown.
    assert found[1].frames[0].kind != PYTHON and not any("EvalFrame" in frame.function for frame in found[1].frames)
    assert all(not _python(thread) for thread in native)


_SPINS = """
def outer():
    inner()

def inner():
    print(flush=True)
    while True:
        pass

outer()
"""


def test_python_functions_of_a_running_thread_are_shown(tmp_path: Path) -> None:
    with _running([sys.executable, "-c", _SPINS]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] != "R":
            time.sleep(0.01)
        names = [name for name, _ in _python(stacks(process.pid).threads[0])]
    assert names == ["inner", "outer", "<module>"]


_NODE = """
function outer(a) { return middle(a) + 1; }
function middle(a) { return inner(a) + 1; }
function inner(a) { let x = 0; for (let i = 0; i < a; i++) x += i % 7; return x; }
for (let k = 0; k < 200; k++) outer(10000);
console.log("ready");
for (;;) outer(1e15);
"""


def test_functions_of_node_come_from_its_map(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    (tmp_path / "works.js").write_text(_NODE)
    options = ["--perf-basic-prof", "--interpreted-frames-native-stack"]
    with _running([node, *options, "works.js"], cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            names = [frame.function for frame in stacks(process.pid).threads[0].frames]
        finally:
            Path(f"/tmp/perf-{process.pid}.map").unlink(missing_ok=True)
    functions = [match[1] for name in names if (match := re.match(r"JS:[*~^+]?(\w+) .*works\.js:", name))]
    # The innermost one may be inlined, or in a handler of V8's own that interprets it.
    assert [each for each in functions if each != "inner"][:2] == ["middle", "outer"]
    assert names[-1] == "_start" and "node::Start" in " ".join(names)


_32_BIT = r"""
static int pauses(void) { int result; __asm__ volatile("int $0x80" : "=a"(result) : "a"(29)); return result; }
__attribute__((noinline)) int deep(int n)
{
    volatile char room[n * 8 + 4];
    room[n] = n;
    return n ? deep(n - 1) + room[n] : pauses();
}
void _start(void)
{
    __asm__ volatile(".cfi_undefined 8");
    deep(5);
    for (;;) pauses();
}
"""


def test_a_32_bit_program_has_its_calls(tmp_path: Path) -> None:
    (tmp_path / "deep.c").write_text(_32_BIT)
    words = ["gcc", "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-O1", "-g", "-fno-inline"]
    done = subprocess.run([*words, "-o", "deep", "deep.c"], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this gcc makes no 32-bit code: {done.stderr.splitlines()[0]}")
    with _running([tmp_path / "deep"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "deep\n" or not _pauses(process.pid):
            time.sleep(0.01)
        (thread,) = stacks(process.pid).threads
    assert [frame.function for frame in thread.frames] == ["pauses", *["deep"] * 6, "_start"] and not thread.cut
    assert thread.call is not None and thread.call.name == "pause"


def _pauses(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "S"
