"""The kernel's own make: the tools it needs, and running it at low priority with its output in a log."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture

__all__ = ["check_build_tools", "compile_kernel", "configure", "has_pahole"]

Report = Callable[[str], None]

_PROGRESS_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0
_COMPILED: Final = re.compile(r"  (?:CC|AS|HOSTCC)\s+(?:\[M\]\s+)?\S+\.o\b")
_COMPLAINT: Final = re.compile(r"(?:\berror\b|\*\*\*|No space left|FAILED)", re.IGNORECASE)

_PROGRAMS: Final = {
    "gcc": "gcc",
    "make": "make",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
}
"""Program -> its Debian package (Documentation/process/changes.rst)."""

_HEADERS: Final = {"stdio.h": "libc6-dev", "gelf.h": "libelf-dev", "zlib.h": "zlib1g-dev"}
"""Header -> its Debian package; the kernel's own objtool and resolve_btfids include them."""


def check_build_tools() -> None:
    """Raise InsituError if tools are missing; it lists all of them and the command that installs them."""
    missing = {program: package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    missing |= {header: package for header, package in _HEADERS.items() if not _has_header(header)}
    if missing:
        raise InsituError(
            f"compiling a kernel needs {', '.join(missing)}",
            remedy=f"apt-get install {' '.join(missing.values())}, as root",
        )


def has_pahole() -> bool:
    """Whether pahole, which generates BTF from debug information, is installed."""
    return shutil.which("pahole") is not None


def _has_header(name: str) -> bool:
    if not shutil.which("gcc"):
        return False
    command = ["gcc", "-E", "-x", "c", "-"]
    text = f"#include <{name}>\n".encode()
    return subprocess.run(command, input=text, capture_output=True, check=False).returncode == 0


def configure(source: Path, objects: Path, asked: Path) -> str:
    """Resolve the options in the file ``asked`` with all others off; returns the resulting .config's text.

    Raises InsituError with make's first error.
    """
    command = [*_command(source, objects), f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"]
    outcome = subprocess.run(command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if outcome.returncode:
        complaints = outcome.stderr.decode(errors="replace").splitlines()
        raise _failure("configuring the kernel", complaints, f"the requested options are in {asked}", objects)
    return (objects / ".config").read_text()


def compile_kernel(source: Path, objects: Path, jobs: int, log: Path, report: Report) -> None:
    """Build the boot image and vmlinux in ``objects``; make's whole output goes to the file ``log``.

    There are no modules, but their target lists the kernel's symbols, for those that are built against it.

    ``report`` is called with the number of files compiled, every 15 s and in long builds less often. However this
    ends, no compiler is left running; a later call resumes the build. Raises InsituError with the first error in
    make's output.
    """
    command = ["nice", *_command(source, objects), f"-j{jobs}", "modules", host_architecture().make_target]
    # In its own process group, so that Ctrl-C does not reach make: this process stops it and all its compilers.
    process = subprocess.Popen(
        command,
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
    """Copy make's output to the log until it ends; returns the first lines that look like errors."""
    assert process.stdout is not None
    begin = reported = time.monotonic()
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
            # The number of lines is limited (messages.note): in hours it would be reached.
            if now - reported >= max(_PROGRESS_SECONDS, (now - begin) / 20):
                reported = now
                report(f"compiled {compiled} files in {(now - begin) / 60:.0f} min; now {line.strip()}")
    return complaints


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        # On SIGTERM make removes unfinished files.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _command(source: Path, objects: Path) -> list[str]:
    return ["make", "--no-print-directory", "-C", str(source), f"O={objects}"]


def _environment() -> dict[str, str]:
    """This process's environment without variables that change the build, and with fixed user and host names."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ARCH", "CROSS_COMPILE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "O", "V")
        and not name.startswith(("KBUILD_", "KCONFIG_", "CONFIG_"))
    }
    return {**kept, "LC_ALL": "C", "KBUILD_BUILD_USER": "insitu", "KBUILD_BUILD_HOST": "lab"}


def _failure(what: str, complaints: Sequence[str], remedy: str, objects: Path) -> InsituError:
    if any("No space left" in line for line in complaints):
        again = "free some; the same command resumes the build"
        return InsituError(f"{what} failed: no space left for {objects}", remedy=again)
    return InsituError(f"{what} failed: {complaints[0] if complaints else 'make gave no reason'}", remedy=remedy)
