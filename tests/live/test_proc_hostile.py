"""insitu proc and stacks on processes that are in a bad way: each is answered, or refused in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.inspect.memory_map import memory

__all__ = ["unprivileged"]

if os.geteuid() != 0:
    pytest.skip("needs root, for others' processes", allow_module_level=True)


@contextmanager
def _compiled(source: str, directory: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A program that runs and has printed a line."""
    (directory / "program.c").write_text(source)
    subprocess.run(["gcc", "-o", "program", "program.c"], cwd=directory, check=True)
    command = [directory / "program", *words]
    # Its children are killed with it: they are in its process group.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _insitu(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done


_MANY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **arguments)
{
    long pairs = atol(arguments[count - 1]);
    char *all = mmap(0, pairs * 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long at = 0; at < pairs; at++) {
        all[at * 8192] = 1;
        if (mprotect(all + at * 8192, 4096, PROT_READ))
            return 1;
    }
    puts("ready");
    fflush(stdout);
    return pause();
}
"""


def test_sixty_thousand_mappings_are_added_up_in_little_memory(tmp_path: Path) -> None:
    """vm.max_map_count allows 65,530 by default."""
    with _compiled(_MANY, tmp_path, "30000") as process:
        found = memory(process.pid, sharers=False)
        assert len(found.areas) >= 60_000
        rows = [at for at, area in enumerate(found.areas) if area.permissions == "r--p" and not area.path]
        assert sum(found.sizes["private"][rows]) >= 30_000 * 4096
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        assert int(found.sizes["resident"].sum()) >> 10 == int(rollup.split("Rss:")[1].split()[0])
        script = (
            "import sys; from insitu.inspect.memory_map import memory; memory(int(sys.argv[1]), sharers=False); "
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"  # ru_maxrss has the parent's, too
        )
        command = [sys.executable, "-c", script, str(process.pid)]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak < 300_000  # KiB; the text alone of smaps has some 60 MB


_VFORKS = r"""
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    puts("ready");
    fflush(stdout);
    if (vfork() == 0)
        for (;;)
            pause();
    return 0;
}
"""


def test_an_uninterruptible_sleep_is_looked_at_without_waiting_for_its_end(tmp_path: Path) -> None:
    """The parent of a vfork(2) is in state D until its child calls exec or ends."""
    with _compiled(_VFORKS, tmp_path) as process:
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] != "D":
            time.sleep(0.01)
        assert "D (disk sleep)" in _insitu("proc", process.pid).stdout
        assert " resident in " in _insitu("proc", "--maps", "-q", process.pid).stdout
        text = _insitu("stacks", "--kernel", process.pid).stdout
        assert "in an uninterruptible sleep" in text and "vfork" in text
        assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] == "D"


def test_a_process_of_a_container_is_explained_by_its_own_files(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "sleep", "1000"]
    with subprocess.Popen(command) as outer:
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            while not (pids := children.read_text().split()) or _comm(pids[0]) != "sleep":
                time.sleep(0.01)
            text = _insitu("proc", pids[0]).stdout
            assert "  namespaces that are not ours: ipc, mnt, net, pid, uts\n" in text
            assert "libc.so.6" in _insitu("proc", "--maps", "-q", pids[0]).stdout
            assert "nanosleep" in _insitu("stacks", pids[0]).stdout
        finally:
            outer.kill()


def _comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_processes_that_end_while_they_are_read_are_one_line() -> None:
    for words in (["proc", "--maps"], ["proc", "--threads", "--stacks"], ["proc", "--json"], ["stacks"]):
        with subprocess.Popen(["sleep", "1000"]) as process:
            asked = [sys.executable, "-m", "insitu", *words, str(process.pid)]
            with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tool:
                time.sleep(0.4)
                process.kill()
                process.wait()
                _, errors = tool.communicate()
        assert "Traceback" not in errors and errors.count("\n") <= 2


def test_names_with_escapes_are_not_printed_raw(tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[2Jb"
    name.write_bytes(Path("/bin/sleep").read_bytes())
    name.chmod(0o755)
    with subprocess.Popen([name, "1000"]) as process:
        try:
            while _comm(str(process.pid)) != "a\x1b[2Jb":
                time.sleep(0.01)
            for words in (["proc"], ["proc", "--maps", "-q"], ["proc", "--threads", "--stacks"]):
                text = _insitu(*words, process.pid).stdout
                assert "\x1b" not in text and "b" in text
            document: Any = json.loads(_insitu("proc", "--json", "--maps", "-q", process.pid).stdout)
            assert document["processes"][0]["name"] == "a\x1b[2Jb"
        finally:
            process.kill()


def test_others_processes_are_refused_in_one_line(unprivileged: Unprivileged) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            done = unprivileged((), "stacks", str(process.pid))
            message = f"cannot trace process {process.pid}: it belongs to user 0 (sudo insitu ...)"
            assert (done.stderr, done.returncode) == (f"insitu: {message}\n", 1)
            done = unprivileged((), "proc", "--threads", str(process.pid))
            assert done.returncode == 0 and "sleep" in done.stdout
        finally:
            process.kill()
