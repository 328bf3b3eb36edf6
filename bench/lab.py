"""The lab against virtme-ng on the same kernel (boot to a command, commands in one guest, a restored snapshot), and
sampling a workload in a guest, as `lab compare` does, against perf in the same guest.

virtme-ng has no guest that runs several commands: its 100 commands are one shell loop, the cheapest way it has.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from insitu.lab import Guest, guest
from insitu.lab.compare.guest_profile import sample_in_guest
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.kernel import Kernel

__all__ = ["main"]

REPEATS = 3
COMMANDS = 100
WORKLOAD = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64", "count=20000", "status=none"]
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
    _line(f"{COMMANDS} commands in one guest (peer: boot and a shell loop)", kept, theirs)
    with guest(kernel="6.1") as running:
        ours = _seconds(lambda: sample_in_guest(running, WORKLOAD))
        theirs = _seconds(lambda: _perf(running)) if shutil.which("perf") else None
    _line("samples of a dd in a guest, with symbols (peer: perf)", ours, theirs, "perf")


def _virtme(kernel: Kernel) -> list[str]:
    """virtme-ng's command up to the guest's command; empty when it is not installed (pip install virtme-ng)."""
    program = shutil.which("virtme-run")
    if program is None:
        return []
    words = [program, "--kimg", str(kernel.image), "--mods", "auto", "--disable-kvm"]
    return [*words, "--cpus", "2", "--memory", "1G", "--force-9p", "--script-sh"]


def _perf(running: Guest) -> None:
    """The same samples by perf: recorded and printed inside the guest."""
    data = "/run/insitu-lab/perf.data"
    record = ["perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", "499", "-o", data]
    quick = ["--no-buildid", "--no-buildid-cache", "--no-bpf-event", "--"]
    running.run([*record, *quick, *WORKLOAD]).check()
    running.run(["perf", "script", "-i", data, "-F", "comm,ip,sym,dso"]).check()


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=300)


def _seconds(action: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        begin = time.monotonic()
        action()
        taken.append(time.monotonic() - begin)
    return statistics.median(taken)


def _line(what: str, ours: float, theirs: float | None, name: str = "virtme-ng") -> None:
    peer = f"{name} {theirs:6.2f} s  ratio {ours / theirs:.2f}" if theirs else f"{name}      -"
    print(f"{what:<62} insitu {ours:6.2f} s  {peer}")


if __name__ == "__main__":
    main()
