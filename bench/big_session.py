"""A session of 10 million samples: the report and the flame graph page, time and peak memory."""

import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench._measure import INSITU, once
from insitu.kernel import procfs
from insitu.session.core_tables import SAMPLE
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame

_SAMPLES = 10_000_000
_STACKS = 100_000
_FUNCTIONS = 20_000
_THREADS = 200
_BATCH = 1_000_000


def write_synthetic(path: Path) -> None:
    """Samples over 100,000 stacks up to 60 deep of 20,000 functions, hot ones as rare as Zipf has them."""
    create(path, Manifest.here(procfs, command=["synthetic"]), procfs)
    with SessionWriter.on_disk(path) as writer:
        _write(writer)
        writer.finish()


def _write(writer: SessionWriter) -> None:
    random = np.random.default_rng(2)
    frames = [
        Frame(f"function_{i}(int, std::vector<int> const&)", f"/lib/m{i % 40}.so", f"/src/m{i % 40}.cc", i % 900)
        if i % 5
        else Frame(f"sys_function_{i}", "[kernel.kallsyms]", kind=KERNEL)
        for i in range(_FUNCTIONS)
    ]
    numbers = np.array(writer.frames.number(frames), np.int32)
    # Callers lie so far back on average that branches come out some 60 frames deep, as those of real programs.
    parent = np.zeros(_STACKS, np.int64)
    parent[1:] = np.maximum(np.arange(1, _STACKS) - random.geometric(60 / _STACKS, _STACKS - 1), 0)
    frame = numbers[random.integers(0, _FUNCTIONS, _STACKS)]
    stack_of = np.zeros(_STACKS, np.int32)
    chains: list[list[int]] = [[]]
    for at in range(1, _STACKS):
        chains.append([int(frame[at]), *chains[parent[at]]])
    offset = np.cumsum([0, *map(len, chains)], dtype=np.int64)
    stack_of = writer.stacks.add(offset, np.array([each for chain in chains for each in chain], np.int32))
    upid = writer.processes.process(1000)
    utids = [writer.processes.thread(1000 + at, upid, name=f"worker-{at % 7}") for at in range(_THREADS)]
    kind = writer.event_type("cpu-clock", "ns", period=1_001_001, source="synthetic")
    ts_ns = np.sort(random.integers(0, 600 * 10**9, _SAMPLES))
    for first in range(0, _SAMPLES, _BATCH):
        count = min(_BATCH, _SAMPLES - first)
        writer.append(
            SAMPLE,
            {
                "ts_ns": ts_ns[first : first + count],
                "utid": np.array(utids, np.int32)[random.integers(0, _THREADS, count)],
                "cpu": random.integers(0, 16, count).astype(np.int32),
                "event_type": np.full(count, kind, np.int32),
                "stack": stack_of[random.zipf(1.3, count) % (_STACKS - 1) + 1],
                "weight": np.full(count, 1_001_001, np.int64),
            },
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        path = Path(directory) / "big.insitu"
        # In a process of its own: a child's peak memory begins with what its parent has.
        writer = get_context("spawn").Process(target=write_synthetic, args=(path,))
        writer.start()
        writer.join()
        query = "select stack, count(*) n from sample group by 1 order by 2 desc limit 5"
        commands = {
            "report": [INSITU, "report", str(path)],
            "flame graph page": [INSITU, "flame", str(path), "-o", f"{directory}/x.html"],
            "heat map page": [INSITU, "heatmap", str(path), "-o", f"{directory}/y.html"],
            "sql": [INSITU, "sql", str(path), query],
        }
        for what, command in commands.items():
            costs = [once(command) for _ in range(3)]
            best = min(costs, key=lambda cost: cost.wall_s)
            peak = max(cost.peak_mib for cost in costs)
            print(f"{what}: {best.wall_s:.2f} s, peak {peak:.0f} MiB [{' '.join(command[:2])}]", flush=True)


if __name__ == "__main__":
    main()
