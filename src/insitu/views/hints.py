"""What to record otherwise where stacks are broken or functions have no names: a line each, with its share."""

import re
from collections.abc import Callable, Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import JIT, PYTHON, USER, Frame
from insitu.views.call_tree import levels

__all__ = ["hints"]

_LEAST: Final = 0.2
"""Of the samples: less is not worth a line."""
_PYTHON: Final = re.compile(r"(?:lib)?python3(?:\.(\d+))?(?:\.so[.\d]*)?$")
_PERF_MAPS_SINCE: Final = 12  # python3 -X perf
_IN_FILE: Final = re.compile(r"/(?!dev/|memfd:|SYSV)(?!.* \(deleted\)$)")
_JIT_COMPILERS: Final = {
    "node": "JavaScript functions have no names: node --perf-basic-prof gives them",
    "libjvm.so": "Java methods have no names: java -XX:+PreserveFramePointer -XX:+DumpPerfMapAtExit gives them",
}


def hints(stacks: WeightedStacks) -> list[str]:
    """Lines for the user; empty where nothing would be better."""
    found = []
    names = {_file(frame) for frame in stacks.frames}
    unnamed = _share(stacks, lambda frame: not frame.symbolized and frame.kind in (USER, JIT) and not frame.module)
    compiler = next((each for each in _JIT_COMPILERS if each in names), "")
    has_names = any(frame.kind == JIT and frame.symbolized for frame in stacks.frames)
    if compiler and unnamed >= _LEAST and not has_names:
        found.append(f"{unnamed:.0%} of the samples: {_JIT_COMPILERS[compiler]}")
    elif _by_frame_pointers(stacks):
        broken = _share(
            stacks, lambda frame: frame.function == "[unknown]" and not (frame.symbolized or frame.module)
        )
        if broken >= _LEAST:
            how = "perf record --call-graph dwarf" if stacks.manifest.imported_from else "--stacks dwarf"
            found.append(f"{broken:.0%} of the call stacks are broken, as without frame pointers: record with {how}")
    python = _share(stacks, lambda frame: _PYTHON.match(_file(frame)) is not None)
    if python >= _LEAST and not any(frame.kind == PYTHON for frame in stacks.frames):
        found.append(f"{python:.0%} of the samples: Python functions have no names: {_of_python(names)}")
    stripped = _without_symbols(stacks)
    if stripped and not any(note.startswith("no symbols: ") for note in stacks.notes):  # the files were not there
        when = "read" if stacks.manifest.imported_from else "recorded"
        found.append(
            f"{stripped[0]:.0%} of the samples: functions of {' and '.join(stripped[1])} have no symbols: a debug"
            f" package, DEBUGINFOD_URLS=SERVER or a file that is not stripped gives them, when it is {when}"
        )
    return found


def _without_symbols(stacks: WeightedStacks) -> tuple[float, list[str]] | None:
    """The share of the samples in code of files that no symbol covers, and the two files that have most of it."""
    of_stack = np.bincount(
        stacks.frame[stacks.stack] + 1, stacks.values(stacks.counting), minlength=len(stacks.frames) + 1
    )
    weights: dict[str, float] = {}
    for frame, weight in zip(stacks.frames, of_stack[1:].tolist(), strict=True):
        if weight and frame.kind == USER and not frame.symbolized and _IN_FILE.match(frame.module):
            weights[_file(frame)] = weights.get(_file(frame), 0) + weight
    share = sum(weights.values()) / (stacks.total_count or 1)
    if share < _LEAST:
        return None
    return share, sorted(weights, key=lambda name: -weights[name])[:2]


def _of_python(names: Collection[str]) -> str:
    """How to get the names, by the versions that the files' names have."""
    matches = (_PYTHON.match(name) for name in names)
    minor = {int(found[1]) for found in matches if found and found[1]}
    how = "python3 -X perf (from 3.12 on) gives them"
    if minor and max(minor) < _PERF_MAPS_SINCE:
        how = f"3.{max(minor)} cannot give them, python3 -X perf of 3.12 can"
    return f"{how}; insitu stacks has those of now, insitu why of waits (3.11 to 3.13)"


def _file(frame: Frame) -> str:
    return frame.module.rpartition("/")[2]


def _by_frame_pointers(stacks: WeightedStacks) -> bool:
    """Whether the stacks may have been recorded by frame pointers; of other tools' files that is not known."""
    options = [source.get("options") for source in stacks.manifest.sources]
    kinds = {each["stacks"] for each in options if isinstance(each, dict) and "stacks" in each}
    return "fp" in kinds if kinds else bool(stacks.manifest.imported_from)


def _share(stacks: WeightedStacks, marks: Callable[[Frame], bool]) -> float:
    """Of the samples, the part that has a frame that ``marks``."""
    total = stacks.total_count
    marked = np.array([marks(frame) for frame in stacks.frames] + [False], np.bool_)
    if not total or not marked.any():
        return 0.0
    has: NDArray[np.bool_] = marked[stacks.frame]  # -1, the root's, is the last
    for level in levels(stacks.parent)[1:]:
        has[level] |= has[stacks.parent[level]]
    return float(stacks.values(stacks.counting)[has[stacks.stack]].sum() / total)
