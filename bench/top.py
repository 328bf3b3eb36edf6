"""What watching costs: CPU time of `insitu top` on a terminal at its default rate, beside top(1) and htop.

Without BPF all processes of this machine are shown; with it, the processes of one program that makes system calls.
"""

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

from bench._measure import INSITU

_RATE_S = "2"
_SETTLES_S, _WATCHED_S = 6.0, 20.0
_SIZES = ((80, 24), (200, 50))
_BUSY = "import os, time\nwhile True:\n    [os.getppid() for _ in range(5000)]\n    time.sleep(0.02)"


def main() -> None:
    busy = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        shown = {
            "insitu top --no-bpf": [INSITU, "top", "--no-bpf"],
            "insitu top PID": [INSITU, "top", str(busy.pid)],
            "top": ["top", "-d", _RATE_S],
            "htop": ["htop", "-d", str(10 * int(_RATE_S))],
        }
        processes = sum(name.name.isdecimal() for name in Path("/proc").iterdir())
        print(f"{processes} processes, a tick each {_RATE_S} s; per cent of one CPU")
        for name, command in shown.items():
            if shutil.which(command[0]):
                costs = "  ".join(f"{_cost(command, size):.2f} at {size[0]}x{size[1]}" for size in _SIZES)
                print(f"  {name:20} {costs}", flush=True)
    finally:
        busy.kill()
        busy.wait()


def _cost(command: list[str], size: tuple[int, int]) -> float:
    """Run it on a terminal of its own, and return its CPU time per wall time once it has settled, in per cent."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    threading.Thread(target=_drain, args=(terminal,), daemon=True).start()
    time.sleep(_SETTLES_S)
    began, before = time.monotonic(), _cpu_s(pid)
    time.sleep(_WATCHED_S)
    used, took = _cpu_s(pid) - before, time.monotonic() - began
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    os.close(terminal)
    return 100 * used / took


def _drain(terminal: int) -> None:
    with suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass


def _cpu_s(pid: int) -> float:
    """CPU time of all threads (Documentation/scheduler/sched-stats.rst)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


if __name__ == "__main__":
    main()
