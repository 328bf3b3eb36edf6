"""speedscope's JSON (https://www.speedscope.app/file-format-schema.json): one sampled profile per thread."""

import json
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu import __version__
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.stack_text import joined
from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import Frame
from insitu.valid_text import valid_text

__all__ = ["export_speedscope", "write_speedscope"]

_MOST_IN_TIME: Final = 2_000_000  # samples
_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def write_speedscope(stacks: WeightedStacks, name: str) -> str:
    """The document of weighted stacks, read with their times; ``name`` is its title.

    Weights are in the stacks' unit. Rows of a thread are in the order of their times; neighbours with the same
    stack are merged, as they are drawn as one box either way. More than two million rows, which no browser shows,
    are in the order of their stacks instead, and ``name`` says so.
    """
    unit = {"ns": "nanoseconds", "bytes": "bytes"}.get(stacks.unit, "none")
    used, of_stack = distinct(stacks.stack)
    indices = [str(at) for at in range(len(stacks.frames))]
    texts = joined(stacks.parent, stacks.frame, indices, used, ",")
    utids = np.array([thread.utid for thread in stacks.threads], np.int64)
    threads, of_row = distinct(utids[stacks.thread])
    ordered = stacks.ts_ns is not None and len(stacks) <= _MOST_IN_TIME
    order = np.lexsort((stacks.ts_ns if ordered and stacks.ts_ns is not None else of_stack, of_row))
    bounds = np.searchsorted(of_row[order], np.arange(len(threads) + 1))
    names: dict[int, list[str]] = {}
    for thread in stacks.threads:  # a thread that renamed itself is there under each of its names
        names.setdefault(thread.utid, []).append(thread.name)
    labels = {thread.utid: f"{', '.join(names[thread.utid])}/{thread.tid}" for thread in stacks.threads}
    profiles = []
    # The first profile is the one that is shown at first: let it be the busiest thread's.
    load = np.bincount(of_row, weights=stacks.weight, minlength=len(threads))
    for at in np.argsort(-load, kind="stable").tolist():
        samples, weights = _runs(of_stack, stacks.weight, order[bounds[at] : bounds[at + 1]])
        head = {
            "type": "sampled",
            "name": valid_text(labels[int(threads[at])]),
            "unit": unit,
            "startValue": 0,
            "endValue": sum(weights),
        }
        # Stacks are texts already: a sample is a choice among few, and encoding each again would take seconds.
        listed = ",".join([f"[{texts[stack]}]" for stack in samples])
        profiles.append(f'{json.dumps(head)[:-1]}, "samples": [{listed}], "weights": {json.dumps(weights)}}}')
    head = {
        "$schema": _SCHEMA,
        "exporter": f"insitu {__version__}",
        "name": valid_text(name if ordered else f"{name} (by stack, not by time)"),
        "activeProfileIndex": 0,
    }
    shared = json.dumps({"frames": [_entry(frame) for frame in stacks.frames]})
    return f'{json.dumps(head)[:-1]}, "shared": {shared}, "profiles": [{",".join(profiles)}]}}\n'


def export_speedscope(stacks: WeightedStacks, options: ExportOptions) -> bytes:
    """The file of ``write_speedscope``."""
    return write_speedscope(stacks, options.title).encode()


def _entry(frame: Frame) -> dict[str, object]:
    entry: dict[str, object] = {"name": valid_text(frame.function)}
    if frame.file or frame.module:
        entry["file"] = valid_text(frame.file or frame.module)
    if frame.line > 0:
        entry["line"] = frame.line
    return entry


def _runs(
    stacks: NDArray[np.int64], weights: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[list[int], list[int]]:
    """The stacks of a thread's samples, equal neighbours merged, and the weight of each run."""
    stack = stacks[rows]
    starts = np.flatnonzero(np.concatenate(([True], stack[1:] != stack[:-1])))
    return stack[starts].tolist(), np.add.reduceat(weights[rows], starts).tolist()
