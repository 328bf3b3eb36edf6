"""Stack copies to frames, cold and in one process, against the CPU time of perf script without inlines."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench._measure import once
from insitu.convert.formats.perf_data import read_perf_data
from insitu.convert.formats.perf_records import SampleBatch, SampleDecoder
from insitu.convert.perf import side_records_of
from insitu.convert.processes import Processes, replay
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.unwind import Unwinder, UserStacks
from insitu.symbols.vdso import VDSO, read_vdso

_PYTHON = """
import json, time
class Item:
    def __init__(self, n): self.n = n
    def __lt__(self, other): return sum(1 for _ in range(3)) and self.n < other.n
def default(_): return {"x": sorted([Item(i * 7919 % 31) for i in range(20)])[0].n, "y": [1, 2, 3]}
def nested(d): return nested(d - 1) if d else json.dumps([Item(i) for i in range(30)], default=default, indent=1)
end = time.time() + 6
while time.time() < end: list(map(nested, [4]))
"""
_RUNS = 5


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        for hertz in (1999, 9999):
            path = Path(directory) / f"{hertz}.data"
            record = ["perf", "record", "-q", "-F", str(hertz), "--call-graph", "dwarf,8192", "-o", str(path)]
            subprocess.run([*record, "--", sys.executable, "-c", _PYTHON], check=True)
            _measure(path)


def _opened(module: Module) -> Elf | None:
    return read_vdso() if module.path == VDSO else Elf(module.path)


def _stacks(batch: SampleBatch, processes: Processes) -> UserStacks:
    rows = np.flatnonzero(batch.regs_at >= 0)
    return UserStacks(
        batch.words[batch.regs_at[rows][:, None] + np.arange(batch.regs_mask.bit_count())],
        batch.regs_mask,
        batch.words.view(np.uint8),
        batch.stack_at[rows],
        batch.stack_size[rows],
        processes.epochs(batch.pid, batch.ts_ns)[rows],
        batch.words[batch.regs_at[rows] - 1],
    )


def _measure(path: Path) -> None:
    recording = read_perf_data(path)
    windows = [window for stream in recording.streams for window in stream]
    processes = replay(side_records_of(recording), recording.build_ids)
    decoder = SampleDecoder(recording.attrs)
    batches = [_stacks(batch, processes) for window in windows for batch in decoder.batches(window)]
    samples = sum(len(batch.epoch) for batch in batches)
    script = ["perf", "script", "--no-inline", "-F", "ip", "-i", str(path)]
    ours, perf, frames = [], [], 0
    for _ in range(_RUNS):
        start = time.process_time()
        unwinder = Unwinder(processes.spaces, _opened)
        frames = sum(len(unwinder.unwind(batch)[1]) for batch in batches)
        ours.append(time.process_time() - start)
        perf.append(once(script).cpu_s)
    mine, peer = min(ours), min(perf)
    print(
        f"{samples} samples, {frames / samples:.1f} frames deep: unwinding {mine * 1e3:.0f} ms "
        f"({mine / frames * 1e9:.0f} ns a frame), whole perf script {peer * 1e3:.0f} ms: {peer / mine:.1f} times that"
        f"  [least CPU time of {_RUNS}; {' '.join(script[:-1])}]",
        flush=True,
    )


if __name__ == "__main__":
    main()
