"""The lab against virtme-ng on the same kernel: boot to a command, commands in a kept guest, a start from a snapshot.

virtme-ng has no kept guest for plain commands: its 100 commands are one shell loop, the cheapest way it has.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.kernel import Kernel

__all__ = ["main"]

REPEATS = 3
COMMANDS = 100
INSITU = [sys.executable, "-m", "insitu", "lab", "run", "-k", "6.1"]


def main() -> None:
    """Print a line per figure: ours, the peer's, the ratio."""
    kernel = fetch("6.1")
    peer = _virtme(kernel)
    boot = _seconds(lambda: _run([*INSITU, "--no-snapshot", "--", "true"]))
    _line("boot to command, process start to end", boot, _seconds(lambda: _run([*peer, "true"])) if peer else None)
    _run([*INSITU, "--", "true"])
    _line("the same from a snapshot", _seconds(lambda: _run([*INSITU, "--", "true"])), None)
    with guest(kernel="6.1") as running:
        kept = _seconds(lambda: [running.run(["/bin/true"]).check() for _ in range(COMMANDS)])
    loop = f"for i in $(seq {COMMANDS}); do /bin/true; done"
    theirs = _seconds(lambda: _run([*peer, loop])) if peer else None
    _line(f"{COMMANDS} commands in a kept guest (peer: boot and a shell loop)", kept, theirs)


def _virtme(kernel: Kernel) -> list[str]:
    """virtme-ng's command up to the guest's command; empty when it is not installed (pip install virtme-ng)."""
    program = shutil.which("virtme-run")
    if program is None:
        return []
    words = [program, "--kimg", str(kernel.image), "--mods", "auto", "--disable-kvm"]
    return [*words, "--cpus", "2", "--memory", "1G", "--force-9p", "--script-sh"]


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=300)


def _seconds(action: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        begin = time.monotonic()
        action()
        taken.append(time.monotonic() - begin)
    return statistics.median(taken)


def _line(what: str, ours: float, theirs: float | None) -> None:
    peer = f"virtme-ng {theirs:6.2f} s  ratio {ours / theirs:.2f}" if theirs else "virtme-ng      -"
    print(f"{what:<62} insitu {ours:6.2f} s  {peer}")


if __name__ == "__main__":
    main()
