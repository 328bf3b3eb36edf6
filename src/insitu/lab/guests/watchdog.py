"""No orphans: a small process that ends a guest's processes and removes its files when their owner is gone.

It holds the read end of a pipe whose only writer is the owner. Whatever ends the owner, SIGKILL included, closes
the pipe. (PR_SET_PDEATHSIG on QEMU would also fire when merely the *thread* that started it ends.)
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
    """Watches over a directory and the processes named to it, from now until ``release``."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "insitu-lab-watchdog", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """End this process, too, when the owner is gone."""
        self._say(f"watch {pid}\n")

    def release(self) -> None:
        """The watched processes have ended: forget them (their numbers may be reused) and remove the directory."""
        self._say("forget -\n")
        with contextlib.suppress(OSError):
            self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
