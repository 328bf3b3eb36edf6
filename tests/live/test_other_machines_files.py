"""perf.data whose binaries are not where they were: --symfs, debuginfod with a real server, and notes that say so."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .perf_peer import perf_record
from .tracing import wait_until

INSITU = [sys.executable, "-m", "insitu"]
SOURCE = """
#include <time.h>
__attribute__((noinline)) static long crunch(long n) { volatile long x = 0; while (n--) x += n; return x; }
int main(void) {
    struct timespec t;
    do { crunch(200000); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); } while (t.tv_nsec < 300000000 && !t.tv_sec);
    return 0;
}
"""


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """A directory with perf.data of there/prog, which is now in elsewhere/; another program has its place."""
    for name in ("there", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "prog.c").write_text(SOURCE)
    program = tmp_path / "there/prog"
    build = ["gcc", "-O1", "-g", "-Wl,--build-id", "-o", program, tmp_path / "prog.c"]
    subprocess.run(build, check=True)
    # Without -N perf would keep a copy of the binary in ~/.debug.
    perf_record(tmp_path / "perf.data", "-F", "999", "-N", "-g", command=[str(program)])
    program.rename(tmp_path / "elsewhere/prog")
    subprocess.run(
        [*build[:-2], program, "-DOTHER", tmp_path / "prog.c", "-Wl,--build-id=0x1234567890abcdef"], check=True
    )
    return tmp_path


def report(at: Path, *words: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    own = {"HOME": str(at), "XDG_CACHE_HOME": str(at / "cache"), **environment}
    done = subprocess.run(
        [*INSITU, "report", "perf.data", "--lines", *words],
        cwd=at,
        capture_output=True,
        text=True,
        env=inherited | own,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_id(program: Path) -> str:
    shown = subprocess.run(["readelf", "-n", program], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: (\w+)", shown)
    assert found
    return found[1]


def test_a_file_that_is_another_one_now_is_named_with_both_build_ids(moved: Path) -> None:
    text = report(moved)
    assert "crunch" not in text
    [note] = [line for line in text.splitlines() if "others now" in line]
    own, other = build_id(moved / "elsewhere/prog"), build_id(moved / "there/prog")
    assert f"1 file is others now: {moved}/there/prog ({own[:16]}, here {other[:16]})" in note
    assert "--symfs DIR, or DEBUGINFOD_URLS=SERVER" in note
    (moved / "there/prog").unlink()
    assert f"1 file is not here: {moved}/there/prog ({own[:16]})" in report(moved)


@pytest.mark.parametrize("flat", [True, False])
def test_symfs_has_the_files_below_it_or_right_in_it(moved: Path, flat: bool) -> None:
    home = moved / "files"
    inner = home / ("prog" if flat else f"{str(moved)[1:]}/there/prog")
    inner.parent.mkdir(parents=True)
    (moved / "elsewhere/prog").rename(inner)
    text = report(moved, "--symfs", "files")
    assert "crunch" in text and "prog.c:3" in text and "no symbols" not in text
    done = subprocess.run(
        [*INSITU, "report", "perf.data", "--symfs", "none"], cwd=moved, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "insitu: --symfs none: not a directory\n"


@pytest.fixture
def server(moved: Path) -> Iterator[str]:
    """A debuginfod server of what is in elsewhere/."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["debuginfod", "-F", "-p", str(port), "-d", str(moved / "index.sqlite"), str(moved / "elsewhere")]
    log = (moved / "server.log").open("wb")
    with log, subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "HOME": str(moved)}) as process:
        url = f"http://127.0.0.1:{port}"
        known = {**os.environ, "DEBUGINFOD_URLS": url, "DEBUGINFOD_CACHE_PATH": str(moved / "polled")}
        find = ["debuginfod-find", "executable", build_id(moved / "elsewhere/prog")]
        # The client remembers for a while what a server does not have.
        (moved / "polled").mkdir()
        (moved / "polled/cache_miss_s").write_text("0\n")
        wait_until(lambda: subprocess.run(find, env=known, capture_output=True).returncode == 0)
        yield url
        process.terminate()


def test_files_come_from_the_servers_that_the_user_names(moved: Path, server: str) -> None:
    text = report(moved, DEBUGINFOD_URLS=server)
    assert "crunch" in text and "prog.c:3" in text and "no symbols" not in text
    own = build_id(moved / "elsewhere/prog")
    assert (moved / "cache/debuginfod_client" / own).is_dir()


def test_without_the_client_the_note_says_so(moved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = report(moved, DEBUGINFOD_URLS="http://127.0.0.1:1", PATH=str(tmp_path_factory.mktemp("no programs")))
    assert "install debuginfod-find for DEBUGINFOD_URLS" in text
