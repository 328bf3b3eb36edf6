"""Leaks of a Python process with 1 GiB of small objects: the pause, and the time beside valgrind's memcheck."""

import os
import subprocess
import sys
import time

from bench._measure import once
from insitu.inspect.heap.leaks import leaks

_GIB = 1 << 30
# Objects in arenas of Python's own, which are looked through; and each in a block of malloc().
# Objects in arenas of Python's own, which are looked through; and each in a block of malloc().
_LOADS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("1 GiB in Python's own arenas", "x = [(n,) for n in range(12_000_000)]", {}),
    ("1 GiB, a block of malloc() each", "x = [bytes(40) for n in range(9_500_000)]", {"PYTHONMALLOC": "malloc"}),
    ("a million objects", "x = [bytes(40) for n in range(1_000_000)]", {"PYTHONMALLOC": "malloc"}),
)


def main() -> None:
    for name, code, more in _LOADS:
        _ours(name, code, more)
    name, code, more = _LOADS[-1]
    os.environ.update(more)
    alone = once([sys.executable, "-c", code])
    checked = once(["valgrind", "-q", "--leak-check=full", sys.executable, "-c", code])
    print(
        f"{name}, valgrind --leak-check=full: {checked.wall_s:.1f} s ({checked.cpu_s:.1f} s of CPU);"
        f" the program alone {alone.wall_s:.2f} s ({alone.cpu_s:.2f})"
    )


def _ours(name: str, code: str, more: dict[str, str]) -> None:
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"]
    environment = {**os.environ, **more}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start, cpu = time.perf_counter(), time.process_time()
        found = leaks(process.pid)
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        process.kill()
    size = found.snapshot.memory.size / _GIB
    pause = found.snapshot.stopped_ns / 1e9
    print(
        f"{name}: {size:.2f} GiB, {len(found.heap.addresses):,} blocks; stopped for {pause:.3f} s"
        f" ({pause / size:.3f} s a GiB), the answer after {wall:.2f} s ({used:.2f} s of CPU)",
        flush=True,
    )
