"""A session of 10 million samples: the report and the flame graph page, time and peak memory."""

import tempfile
from pathlib import Path

import numpy as np

from bench._measure import INSITU, once
from insitu.convert.build import Built
from insitu.convert.convert import save
from insitu.convert.processes import Processes
from insitu.session import store
from insitu.session.profile import Profile, Thread
from insitu.symbols.frame import KERNEL, USER, Frame
from insitu.symbols.process_map import ProcessMap

_SAMPLES = 10_000_000
_STACKS = 100_000
_FUNCTIONS = 20_000


def synthetic() -> Profile:
    """Samples over 100,000 stacks up to 60 deep of 20,000 functions, hot ones as rare as Zipf has them."""
    random = np.random.default_rng(2)
    parent = np.zeros(_STACKS, np.int32)
    # Callers lie so far back on average that branches come out some 60 frames deep, as those of real programs.
    parent[1:] = np.maximum(np.arange(1, _STACKS) - random.geometric(60 / _STACKS, _STACKS - 1), 0)
    frame = random.integers(0, _FUNCTIONS, _STACKS).astype(np.int32)
    frame[0] = -1
    stack = (random.zipf(1.3, _SAMPLES) % (_STACKS - 1) + 1).astype(np.int32)
    frames = [
        Frame(f"function_{i}(int, std::vector<int> const&)", f"/lib/m{i % 40}.so", f"/src/m{i % 40}.cc", i % 900)
        if i % 5
        else Frame(f"sys_function_{i}", "[kernel.kallsyms]", kind=KERNEL)
        for i in range(_FUNCTIONS)
    ]
    assert frames[1].kind == USER
    return Profile(
        frames=frames,
        stack_parent=parent,
        stack_frame=frame,
        ts_ns=np.sort(random.integers(0, 600 * 10**9, _SAMPLES)),
        cpu=random.integers(0, 16, _SAMPLES).astype(np.int32),
        tid=random.integers(1000, 1200, _SAMPLES).astype(np.int32),
        stack=stack,
        event=np.zeros(_SAMPLES, np.int32),
        weight=np.full(_SAMPLES, 1_001_001, np.int64),
        threads=[Thread(tid, 1000, 1, f"worker-{tid % 7}") for tid in range(1000, 1200)],
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        path = Path(directory) / "big.insitu"
        store.create(path, {"command": ["synthetic"]})
        save(path, Built(synthetic(), Processes(ProcessMap())))
        commands = {
            "report": [INSITU, "report", str(path)],
            "flame graph page": [INSITU, "flame", str(path), "-o", f"{directory}/x.html"],
            "heat map page": [INSITU, "heatmap", str(path), "-o", f"{directory}/y.html"],
            "sql": [
                INSITU,
                "sql",
                str(path),
                "select stack, count(*) n from sample group by 1 order by 2 desc limit 5",
            ],
        }
        for what, command in commands.items():
            cost = once(command)
            print(f"{what}: {cost.wall_s:.2f} s, peak {cost.peak_mib:.0f} MiB [{' '.join(command[:2])}]", flush=True)
