"""In a guest: compares the memory of areas.c (tests/live/memory_programs) with the kernel's sums, the swap too."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from insitu.inspect.memory_map import memory
from insitu.inspect.page_runs import page_runs

_PROCESS_MADVISE, _MADV_PAGEOUT = 440, 21
_SWAP = "modprobe zram; echo 33554432 > /sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0"
_NO_SWAP = "swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset"
_KERNEL = {
    "resident": ("Rss",),
    "private": ("Private_Clean", "Private_Dirty"),
    "shared": ("Shared_Clean", "Shared_Dirty"),
    "swapped": ("Swap",),
}


def sums(pid: int) -> dict[str, tuple[int, int]]:
    """Ours and the kernel's."""
    found = memory(pid)
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kernel = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    pairs = {
        name: (int(found.sizes[name].sum()), sum(kernel[each] for each in names)) for name, names in _KERNEL.items()
    }
    return pairs | {"pss": (found.pss, kernel["Pss"])}


def page_out(pid: int, start: int, length: int) -> None:
    """Put pages that only the process has into the swap."""
    vector = (ctypes.c_uint64 * 2)(start, length)
    process = os.pidfd_open(pid)
    ctypes.CDLL(None).syscall(_PROCESS_MADVISE, process, vector, 1, _MADV_PAGEOUT, 0)
    os.close(process)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        time.sleep(0.01)


with subprocess.Popen([sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True) as areas:
    assert areas.stdout is not None
    at: dict[str, int] = {}
    while len(at) < 9:
        name, value = areas.stdout.readline().split()
        at[name] = int(value, 16)
    for each in (areas.pid, at["child"]):
        stop(each)
    before = sums(areas.pid)
    subprocess.run(["sh", "-c", _SWAP], check=True, capture_output=True)
    page_out(areas.pid, at["inherited"], 20 * 4096)
    after = sums(areas.pid)
    runs = [(run.pages, run.state) for run in page_runs(areas.pid, at["inherited"], at["inherited"] + 20 * 4096)]
    for each in (areas.pid, at["child"]):
        os.kill(each, signal.SIGKILL)
subprocess.run(["sh", "-c", _NO_SWAP], check=True, capture_output=True)
print(json.dumps({"before": before, "after": after, "runs": runs}))
