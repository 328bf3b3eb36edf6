"""A session of 5 million function calls: time and memory of every view of it."""

import resource
import tempfile
from pathlib import Path

import numpy as np

from bench._measure import INSITU, once
from insitu.convert.call_rows import write_calls
from insitu.convert.call_spans import Calls
from insitu.kernel import procfs
from insitu.session.call_table import KERNEL_FUNCTION
from insitu.session.coded_texts import CodedTexts
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame

_CALLS = 5_000_000
_TREES_AT_ONCE = 4_000
_FUNCTIONS = 300
_DEPTHS = (0, 1, 2, 3, 3, 2, 3, 4, 5, 5, 4, 5, 1, 2, 3, 4, 5, 6, 6, 3, 1, 2, 2, 3, 4)
"""Of the calls of one tree, callers before what they call."""
_VIEWS = (
    ["report"],
    ["report", "--slowest"],
    ["report", "--callees", "function_7"],
    ["flame", "-o", "/dev/null"],
    ["timeline", "-o", "/dev/null"],
    ["sql"],
    ["diff"],
)


def synthetic(path: Path, count: int = _CALLS, seed: int = 7) -> Path:
    """A session of some ``count`` calls of kernel functions by 16 threads: trees of 25 calls."""
    create(path, Manifest.here(procfs, command=["synthetic"], default_table="span"), procfs)
    random = np.random.default_rng(seed)
    depth = np.array(_DEPTHS, np.int32)
    parent = np.array(
        [max([at for at in range(row) if depth[at] == depth[row] - 1], default=-1) for row in range(len(depth))]
    )
    functions = [Frame(f"function_{number}", "[kernel.kallsyms]", kind=KERNEL) for number in range(_FUNCTIONS)]
    func = (np.arange(len(depth)) * 7 % 60).astype(np.int32)
    now = 1_000_000_000
    with SessionWriter.on_disk(path) as writer:
        for first in range(0, count // len(depth), _TREES_AT_ONCE):
            trees = min(_TREES_AT_ONCE, count // len(depth) - first)
            own = random.exponential(400, (trees, len(depth))).astype(np.int64) + 50
            dur = own.copy()
            for row in range(len(depth) - 1, 0, -1):  # a call's duration is its own time and its callees'
                dur[:, parent[row]] += dur[:, row]
            start = np.zeros_like(dur)
            after = np.zeros_like(dur)  # where the next callee of a call begins
            for row in range(len(depth)):
                if parent[row] >= 0:
                    start[:, row] = start[:, parent[row]] + after[:, parent[row]] + 10
                    after[:, parent[row]] += dur[:, row]
            begin = now + np.cumsum(dur[:, 0] + 200) - dur[:, 0]
            now = int(begin[-1] + dur[-1, 0])
            kind = random.integers(0, 5, trees)[:, None] * 60
            calls = Calls(
                (begin[:, None] + start).ravel(),
                dur.ravel(),
                own.ravel(),
                np.repeat(1000 + random.integers(0, 16, trees), len(depth)).astype(np.int32),
                np.repeat(random.integers(0, 4, trees), len(depth)).astype(np.int32),
                (func + kind).ravel().astype(np.int32),
                np.where(parent >= 0, parent + len(depth) * np.arange(trees)[:, None], -1).ravel(),
                np.tile(depth, trees),
                np.zeros(dur.size, np.bool_),
                0,
            )
            write_calls(writer, calls, functions, CodedTexts(np.zeros(dur.size, np.int32), (KERNEL_FUNCTION,)))
        writer.finish(end_ns=now)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        path, other = (synthetic(Path(directory, f"{seed}.insitu"), seed=seed) for seed in (7, 8))
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f"{_CALLS:,} calls written in {used.ru_utime / 2:.1f} s of CPU, peak {used.ru_maxrss >> 10} MiB")
        for command in _VIEWS:
            more = [str(other)] if command[0] == "diff" else [".tables"] if command[0] == "sql" else []
            cost = once([INSITU, command[0], str(path), *more, *command[1:]])
            figures = f"{cost.wall_s:6.1f} s, {cost.cpu_s:6.1f} s of CPU, {cost.peak_mib:6.0f} MiB"
            print(f"  {' '.join(command):<28} {figures}", flush=True)
