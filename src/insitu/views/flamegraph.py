"""Flame graph pages: of a profile, of a call tree, and of the difference between two call trees."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.session.profile import CallTree, Name, Profile, Value, weight_unit
from insitu.views.losses import lost_by_source
from insitu.views.named_stacks import name_columns, named_stacks, thread_groups
from insitu.views.page import html_page

__all__ = ["described", "diff_flame_html", "flame_html", "recorded_notes", "tree_flame_html"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Words = NDArray[np.generic]


def flame_html(
    profile: Profile,
    *,
    title: str,
    subtitle: str | None = None,
    notes: Sequence[str] = (),
    value: Value = "samples",
    select: NDArray[np.bool_] | None = None,
    reverse: bool = False,
    icicle: bool = False,
    min_width: float = 0.5,
) -> str:
    """The flame graph page of the samples of ``profile``, or of those where the mask ``select`` is set.

    ``value`` "weight" makes widths the samples' weights, "samples" their number. ``reverse`` (rooted in the
    leaves), ``icicle`` (root on top) and ``min_width`` (pixels below which a frame is not drawn alone) are what the
    page starts with. ``subtitle`` defaults to what the recording says of itself.
    """
    stacks = named_stacks(profile, select)
    stack = profile.stack if select is None else profile.stack[select]
    threads, group = thread_groups(profile, select)
    weight = None
    if value == "weight":
        weight = profile.weight if select is None else profile.weight[select]
    nodes = len(stacks.parent)
    pairs, row = distinct(group * nodes + stacks.node[stack])
    meta = {
        "mode": "flame",
        "title": title,
        "subtitle": described(profile, len(stack)) if subtitle is None else subtitle,
        "notes": [*recorded_notes(profile), *notes],
        "losses": lost_by_source(profile.lost),
        "unit": "samples" if value == "samples" else weight_unit(profile.events),
        "names": name_columns(stacks.names, stacks.files),
        "threads": threads,
        "reverse": reverse,
        "icicle": icicle,
        "minWidth": min_width,
    }
    arrays: dict[str, Words] = {
        "parent": stacks.parent,
        "name": stacks.name,
        "entryNode": pairs % nodes,
        "entryGroup": pairs // nodes,
        "entryCount": np.bincount(row, weights=weight, minlength=len(pairs)).astype(np.int64),
    }
    return html_page("flame", title=title, meta=meta, arrays=arrays)


def tree_flame_html(
    tree: CallTree, *, title: str, subtitle: str = "", notes: Sequence[str] = (), icicle: bool = False
) -> str:
    """The flame graph page of a call tree, which knows nothing of threads."""
    node = np.flatnonzero(tree.own)
    meta = {
        "mode": "flame",
        "title": title,
        "subtitle": subtitle,
        "notes": list(notes),
        "losses": {},
        "unit": tree.unit,
        "names": name_columns(tree.names),
        "threads": {"tid": [], "pid": [], "comm": []},
        "reverse": False,
        "icicle": icicle,
        "minWidth": 0.5,
    }
    arrays: dict[str, Words] = {
        "parent": tree.parent,
        "name": tree.name,
        "entryNode": node,
        "entryGroup": np.zeros(len(node), np.int32),
        "entryCount": tree.own[node],
    }
    return html_page("flame", title=title, meta=meta, arrays=arrays)


def diff_flame_html(before: CallTree, after: CallTree, *, title: str, notes: Sequence[str] = ()) -> str:
    """The differential flame graph page: red where a function's share of its recording grew, blue where it shrank.

    Widths are those of ``after`` (the page can switch to ``before``). Shares are of each tree's own total, so that
    recordings of different length compare. Both trees should count the same unit; where they do not, the page
    says so.
    """
    parent, name, names, own_before, own_after = _united(before, after)
    remarks = list(notes)
    if before.unit != after.unit:
        remarks.append(f"the two recordings count different things: {before.unit} before, {after.unit} after")
    meta = {
        "mode": "diff",
        "title": title,
        "subtitle": f"before: {int(own_before.sum()):,} {before.unit}, after: {int(own_after.sum()):,} {after.unit}",
        "notes": remarks,
        "losses": {},
        "unit": after.unit,
        "names": name_columns(names),
        "threads": {"tid": [], "pid": [], "comm": []},
        "reverse": False,
        "icicle": False,
        "minWidth": 0.5,
    }
    node = np.flatnonzero((own_before != 0) | (own_after != 0))
    arrays: dict[str, Words] = {
        "parent": parent,
        "name": name,
        "entryNode": node,
        "entryGroup": np.zeros(len(node), np.int32),
        "entryCount": own_after[node],
        "entryBefore": own_before[node],
    }
    return html_page("flame", title=title, meta=meta, arrays=arrays)


def described(profile: Profile, samples: int) -> str:
    """One line on what was recorded: the command, where, and how many samples over what time."""
    info: Mapping[str, object] = profile.info
    words = [f"{samples:,} samples"]
    if profile.ts_ns.any():
        words.append(f"{int(np.ptp(profile.ts_ns)) / 1e9:,.1f} s")
    if isinstance(info.get("frequency_hz"), int):
        words.append(f"{info['frequency_hz']:,} Hz")
    words += [str(info[key]) for key in ("host", "kernel") if isinstance(info.get(key), str) and info[key]]
    if len(profile.events):
        words.append(", ".join(profile.events))
    return " · ".join(words)


def recorded_notes(profile: Profile) -> list[str]:
    """What the recorder or the importer remarked."""
    notes = profile.info.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _united(before: CallTree, after: CallTree) -> tuple[I32, I32, list[Name], I64, I64]:
    """One tree that has every path of both: parents, names, and the own weights that each of the two has there."""
    index: dict[Name, int] = {}
    sides = []
    for tree in (before, after):
        of_name = np.array([index.setdefault(name, len(index)) for name in tree.names], np.int32)
        depth = tree.depths()
        order = np.argsort(depth, kind="stable")
        sides.append((tree, of_name[tree.name], order, depth[order], np.zeros(len(tree), np.int32)))
    parents, labels = [np.zeros(1, np.int32)], [sides[1][1][:1]]
    count, level = 1, 1
    while True:
        rows = [
            order[np.searchsorted(depth, level) : np.searchsorted(depth, level + 1)] for *_, order, depth, _ in sides
        ]
        if not any(len(row) for row in rows):
            break
        keys = [
            united[tree.parent[row]].astype(np.int64) * len(index) + label[row]
            for row, (tree, label, _, _, united) in zip(rows, sides, strict=True)
        ]
        found, inverse = distinct(np.concatenate(keys))
        split = len(rows[0])
        sides[0][4][rows[0]] = count + inverse[:split]
        sides[1][4][rows[1]] = count + inverse[split:]
        parents.append((found // len(index)).astype(np.int32))
        labels.append((found % len(index)).astype(np.int32))
        count += len(found)
        level += 1
    own = [np.zeros(count, np.int64) for _ in sides]
    for weights, (tree, *_, united) in zip(own, sides, strict=True):
        np.add.at(weights, united, tree.own)
    return np.concatenate(parents), np.concatenate(labels), list(index), own[0], own[1]
