"""Running the kernel's own make: quietly, at low priority, its output in a log, stopped with whoever started it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["compile_kernel", "configure"]

Report = Callable[[str], None]

_PROGRESS_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0
_COMPILED: Final = re.compile(r"  (?:CC|AS|HOSTCC)\s+(?:\[M\]\s+)?\S+\.o\b")
_COMPLAINT: Final = re.compile(r"(?:\berror\b|\*\*\*|No space left|FAILED)", re.IGNORECASE)


def configure(source: Path, objects: Path, asked: Path) -> str:
    """Resolve the options in the file ``asked`` with all else switched off; the resulting .config's text."""
    words = [*_words(source, objects), f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"]
    outcome = subprocess.run(words, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if outcome.returncode:
        complaints = outcome.stderr.decode(errors="replace").splitlines()
        raise _failure("configuring the kernel", complaints, f"the fragment asked for is {asked}", objects)
    return (objects / ".config").read_text()


def compile_kernel(source: Path, objects: Path, jobs: int, log: Path, report: Report) -> None:
    """Make bzImage and vmlinux in ``objects``; make's whole output goes to the file ``log``.

    ``report`` gets a line now and then with the number of files compiled. However this ends, no compiler is left
    running; a later call goes on where this one stopped.
    """
    words = ["nice", *_words(source, objects), f"-j{jobs}", "bzImage"]
    # A process group of its own, so that Ctrl-C reaches make once, from here, and all its compilers with it.
    process = subprocess.Popen(
        words,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    try:
        complaints = _follow(process, log, report)
        if process.wait():
            raise _failure("compiling the kernel", complaints, f"make's whole output is in {log}", objects)
    finally:
        _stop(process)


def _follow(process: "subprocess.Popen[bytes]", log: Path, report: Report) -> list[str]:
    """Copy make's output to the log until it ends; the first lines that complain of something."""
    assert process.stdout is not None
    begin = told = time.monotonic()
    compiled = 0
    complaints: list[str] = []
    with log.open("wb", buffering=0) as file:
        for raw in process.stdout:
            file.write(raw)
            line = raw.decode(errors="replace").rstrip()
            compiled += _COMPILED.match(line) is not None
            if len(complaints) < 20 and not line.startswith("  ") and _COMPLAINT.search(line):
                complaints.append(line)
            now = time.monotonic()
            if now - told >= _PROGRESS_SECONDS:
                told = now
                report(f"compiled {compiled} files in {(now - begin) / 60:.0f} min; now {line.strip()}")
    return complaints


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        # On SIGTERM make removes the file it was about to finish.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _words(source: Path, objects: Path) -> list[str]:
    return ["make", "--no-print-directory", "-C", str(source), f"O={objects}"]


def _environment() -> dict[str, str]:
    """This process's environment without what another make left in it, and without names of who builds where."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ARCH", "CROSS_COMPILE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "O", "V")
        and not name.startswith(("KBUILD_", "KCONFIG_", "CONFIG_"))
    }
    return {**kept, "LC_ALL": "C", "KBUILD_BUILD_USER": "insitu", "KBUILD_BUILD_HOST": "lab"}


def _failure(what: str, complaints: Sequence[str], remedy: str, objects: Path) -> InsituError:
    if any("No space left" in line for line in complaints):
        again = "free some, and the same command goes on from here"
        return InsituError(f"{what} failed: no space left for {objects}", remedy=again)
    return InsituError(f"{what} failed: {complaints[0] if complaints else 'make gave no reason'}", remedy=remedy)
