"""In a guest of two NUMA nodes: what insitu has of nodes.c (tests/live/memory_programs), and what the kernel has."""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from insitu.inspect.page_runs import page_runs

_POOLS = [Path(f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages") for node in (0, 1)]
_HUGE = 2 << 20


def insitu(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "insitu", *words], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


def runs(pid: int, start: int, huge_pages: int) -> list[tuple[int, str]]:
    return [(run.pages, run.state) for run in page_runs(pid, start, start + huge_pages * _HUGE)]


def of_hugetlbfs() -> Any:
    """What insitu cache has of a file of two huge pages, one of which was touched."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "hugetlbfs", "none", directory], check=True)
        file = os.open(f"{directory}/file", os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, 2 * _HUGE)
        with mmap.mmap(file, 2 * _HUGE) as memory:
            memory[0] = 1
        os.close(file)
        found = json.loads(insitu("cache", "--numa", "--json", directory))
        subprocess.run(["umount", directory], check=True)
    return found


for pool in _POOLS:
    pool.write_text("6")
with subprocess.Popen([sys.argv[1]], stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout is not None
    at: dict[str, int] = {}
    while len(at) < 8:
        name, value = process.stdout.readline().split()
        at[name] = int(value, 16)
    for each in (at["child"], process.pid):  # or pages of a stack would change meanwhile
        os.kill(each, signal.SIGSTOP)
        while Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2][0] != "T":
            time.sleep(0.01)
    pid = str(process.pid)
    found = {
        "at": at,
        "json": json.loads(insitu("proc", "--maps", "-q", "--json", pid)),
        "text": insitu("proc", "--maps", "-q", pid),
        "numa_maps": Path(f"/proc/{pid}/numa_maps").read_text(),
        "smaps": Path(f"/proc/{pid}/smaps").read_text(),
        "transparent": runs(process.pid, at["transparent"], 4),
        "shared_pool": runs(process.pid, at["shared_pool"], 2),
        "hugetlbfs": of_hugetlbfs(),
    }
    for each in (at["child"], process.pid):
        os.kill(each, signal.SIGKILL)
for pool in _POOLS:
    pool.write_text("0")
print(json.dumps(found))
