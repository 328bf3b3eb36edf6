"""The page cache of a large file and of a tree, beside vmtouch and fincore."""

import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import insitu
from bench._measure import INSITU, compare

_FILE_BYTES = 4 << 30
_DIRECTORIES, _FILES = 100, 1000
_RUNS = 5


def main() -> None:
    directory = Path("/var/tmp/insitu-bench-cache")
    directory.mkdir()
    try:
        _large(directory / "large")
        _tree(directory / "tree")
    finally:
        shutil.rmtree(directory)


def _large(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(_FILE_BYTES >> 20):
            file.write(os.urandom(1 << 12) * 256)
    (found,) = insitu.cache(path)
    print(f"a file of {_FILE_BYTES >> 30} GiB, {found.counts.cached:,} of {found.pages:,} pages cached")
    for peer in (["vmtouch", "-q", str(path)], ["fincore", str(path)]):
        ours, theirs = [], []
        for _ in range(_RUNS):
            start = time.perf_counter()
            insitu.cache(path)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            subprocess.run(peer, check=True, stdout=subprocess.DEVNULL)
            theirs.append(time.perf_counter() - start)
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(
            f"  insitu.cache() {mine * 1e3:.2f} ms, {peer[0]} {other * 1e3:.1f} ms: {other / mine:.0f} times faster"
        )
        compare("  whole processes", [INSITU, "cache", "-q", "--segments", "0", str(path)], peer, _RUNS)
    path.unlink()


def _tree(root: Path) -> None:
    for number in range(_DIRECTORIES):
        (root / str(number)).mkdir(parents=True)
        for name in range(_FILES):
            (root / f"{number}/{name}").write_bytes(b"x" * 1000 * (1 + name % 8))
    print(f"a tree of {_DIRECTORIES * _FILES:,} files")
    compare(
        "  whole processes",
        [INSITU, "cache", "-q", "--segments", "0", str(root)],
        ["vmtouch", "-q", str(root)],
        _RUNS,
    )
