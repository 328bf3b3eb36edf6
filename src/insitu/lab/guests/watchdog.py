"""A small process that kills a guest's processes and removes its files after their owner has exited.

It reads from a pipe that only the owner writes to; however the owner ends, SIGKILL included, the pipe is closed.
(PR_SET_PDEATHSIG on QEMU would also fire when the *thread* that started it ends.)
"""

import contextlib
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["Watchdog"]

_SCRIPT: Final = """
trap '' HUP INT TERM
while read -r verb pid; do
    case $verb in
        watch) pids="$pids $pid" ;;
        forget) pids= ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids
rm -rf "$1"
rmdir "${1%/*}"
"""


class Watchdog:
    """Watches a directory and the processes given to ``watch``, until ``release``."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "insitu-lab-watchdog", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Kill this process, too, after the owner has exited."""
        self._say(f"watch {pid}\n")

    def release(self) -> None:
        """The watched processes have ended: forget them (their pids may be reused) and remove the directory."""
        self._say("forget -\n")
        with contextlib.suppress(OSError):
            self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
