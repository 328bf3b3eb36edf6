"""Start of `insitu trace` beside bpftrace where there are kprobes: both run in a lab guest, under each kernel.

The guest reads this machine's files through its file server, which makes hundreds of Python's small files slower than
on any disk: both tools run from copies in the guest's memory.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench._guests import mount_tracing, pass_on
from insitu.lab import guest
from insitu.lab.kernels.fetch import fetch

__all__ = ["main"]

_KERNELS = ("6.1", "6.12")
_REPEATS = 3
_CASES = {
    "BEGIN { exit(); }": ("-e", "BEGIN { exit(); }"),
    "kprobe:tcp_*": ("-e", "BEGIN { exit(); } kprobe:tcp_* { @[probe] = count(); }"),
    "-l kprobe:tcp*": ("-l", "kprobe:tcp*"),
}


def main() -> None:
    """Boot each kernel; the guest prints a line for each case: ours, bpftrace's, the ratio."""
    for name in _KERNELS:
        fetch(name)
        with guest(kernel=name, cpus=2, memory="2G") as running:
            running.run([sys.executable, "-m", "bench.trace_lab", "inside"], stdout=pass_on).check()


def inside() -> None:
    """What runs in the guest."""
    mount_tracing()
    with tempfile.TemporaryDirectory() as directory:
        ours, environment = _copy_of_ours(Path(directory))
        peer = [_copy("bpftrace", Path(directory))]
        for what, words in _CASES.items():
            # The first runs read what later ones find in memory, and fill our cache of programs.
            kept = [
                _wall([*ours, *words], environment),
                *(_wall([*ours, *words], environment) for _ in range(_REPEATS)),
            ]
            mine, theirs = [], [_wall([*peer, *words])]
            for _ in range(_REPEATS):
                mine.append(_wall([*ours, "--no-cache", *words], environment))
                theirs.append(_wall([*peer, *words]))
            _show(what, mine, theirs[1:])
            _show(f"{what}, cached", kept[1:], theirs[1:])


def _copy_of_ours(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Python, insitu and what compiling needs, in that directory: the command, and its environment."""
    import llvmlite
    import msgspec

    import insitu

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = directory / "lib" / version
    skipped = shutil.ignore_patterns(
        "test", "site-packages", "idlelib", "tkinter", "ensurepip", "lib2to3", "*.a", "config-*"
    )
    shutil.copytree(Path(sys.base_prefix, "lib", version), library, ignore=skipped)
    for package in (llvmlite, msgspec, insitu):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        shutil.copytree(source, library / "site-packages" / source.name, ignore=shutil.ignore_patterns("web"))
    program = shutil.copy2(Path(sys.base_prefix, "bin", version), directory / version)
    environment = {
        **os.environ,
        "PYTHONHOME": str(directory),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib",
    }
    return [str(program), "-m", "insitu", "trace"], environment


def _copy(name: str, directory: Path) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return str(shutil.copy2(found, directory / name))


def _wall(words: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    begun = time.monotonic()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=environment)
    return time.monotonic() - begun


def _show(what: str, ours: Sequence[float], peers: Sequence[float]) -> None:
    mine, theirs = statistics.median(ours), statistics.median(peers)
    release = os.uname().release
    print(
        f"{release}: {what:<28} ours {mine:7.2f} s   bpftrace {theirs:7.2f} s   ratio {mine / theirs:5.2f}",
        flush=True,
    )


if __name__ == "__main__":
    inside()
