"""Stacks merged by the names of their frames: the one tree on which the HTML views select threads and times."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.session.profile import Name, Profile, stack_depths

__all__ = ["NamedStacks", "name_columns", "named_stacks", "thread_groups"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class NamedStacks:
    """A tree of names; node 0 is the root, every node comes after its parent.

    ``parent`` and ``name`` (an index into ``names``) are per node. ``node`` says for each stack of the profile which
    node it is; -1 where no sample needs it. ``files`` has a source file for each name, "" where unknown.
    """

    parent: I32
    name: I32
    node: I32
    names: list[Name]
    files: list[str]


def named_stacks(profile: Profile, select: NDArray[np.bool_] | None = None) -> NamedStacks:
    """Merge the stacks that samples (those of the mask ``select``) have, one level of all stacks at a time."""
    parent = profile.stack_parent
    depth = stack_depths(parent)
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(int(depth.max(initial=0)) + 2))
    levels = [order[low:high] for low, high in pairwise(bounds)]

    stack = profile.stack if select is None else profile.stack[select]
    used = np.bincount(stack, minlength=len(parent)) > 0
    for level in reversed(levels[1:]):
        used[parent[level[used[level]]]] = True

    names, files, label = _labels(profile, used)
    node = np.full(len(parent), -1, np.int32)
    node[:1] = 0
    parents, labels = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)]
    count = 1
    for level in levels[1:]:
        here = level[used[level]]
        key = node[parent[here]].astype(np.int64) * len(names) + label[here]
        keys, row = distinct(key)
        node[here] = count + row
        parents.append((keys // len(names)).astype(np.int32))
        labels.append((keys % len(names)).astype(np.int32))
        count += len(keys)
    return NamedStacks(np.concatenate(parents), np.concatenate(labels), node, names, files)


def _labels(profile: Profile, used: NDArray[np.bool_]) -> tuple[list[Name], list[str], I32]:
    """The names that used stacks have, the root's first, a file for each, and for each stack its name's index."""
    index: dict[Name, int] = {Name("all"): 0}
    files = [""]
    frames = np.unique(profile.stack_frame[used])
    of_frame = np.zeros(len(profile.frames) + 1, np.int32)
    for i in frames[frames >= 0].tolist():
        frame = profile.frames[i]
        name = Name(frame.function, frame.module, frame.kind, frame.inlined)
        at = index.setdefault(name, len(index))
        if at == len(files):
            files.append(frame.file)
        elif not files[at]:
            files[at] = frame.file
        of_frame[i] = at
    return list(index), files, of_frame[profile.stack_frame]


def name_columns(names: list[Name], files: list[str] | None = None) -> dict[str, object]:
    """``names`` as the pages read them: texts that repeat (module, kind, file) once each, and an index per name."""
    modules: dict[str, int] = {}
    kinds: dict[str, int] = {}
    paths: dict[str, int] = {}
    return {
        "function": [name.function for name in names],
        "module": [modules.setdefault(name.module, len(modules)) for name in names],
        "kind": [kinds.setdefault(name.kind, len(kinds)) for name in names],
        "inlined": [int(name.inlined) for name in names],
        "file": [paths.setdefault(path, len(paths)) for path in files or [""] * len(names)],
        "modules": list(modules),
        "kinds": list(kinds),
        "files": list(paths),
    }


def thread_groups(profile: Profile, select: NDArray[np.bool_] | None = None) -> tuple[dict[str, list[object]], I64]:
    """The threads of the samples under each name they had, as the pages read them, and each sample's index there."""
    tid = profile.tid if select is None else profile.tid[select]
    comms, comm = profile.commands(tid, profile.ts_ns if select is None else profile.ts_ns[select])
    pairs, group = distinct(tid.astype(np.int64) * max(len(comms), 1) + comm)
    tids = (pairs // max(len(comms), 1)).tolist()
    pid = {thread.tid: thread.pid for thread in profile.threads}
    columns: dict[str, list[object]] = {
        "tid": tids,
        "pid": [pid.get(tid, tid) for tid in tids],
        "comm": [comms[at] for at in (pairs % max(len(comms), 1)).tolist()],
    }
    return columns, group
