"""Flame graph pages: of weighted stacks, of a call tree, and of the difference between two call trees."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import ThreadLabel, Value, WeightedStacks
from insitu.views.call_tree import CallTree, Name, named_stacks, united
from insitu.views.hints import hints
from insitu.views.page import data_page
from insitu.views.page_data import Meta, Names, Threads
from insitu.views.quantity import amount, duration

__all__ = ["described", "diff_flame_html", "flame_html", "name_columns", "thread_columns", "tree_flame_html"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Words = NDArray[np.generic]


def flame_html(
    stacks: WeightedStacks,
    *,
    title: str,
    subtitle: str | None = None,
    notes: Sequence[str] = (),
    value: Value | None = None,
    reverse: bool = False,
    icicle: bool = False,
    min_width: float = 0.5,
    addresses: bool = False,
) -> str:
    """The flame graph page of weighted stacks.

    ``value`` says what widths are (default: what suits the rows). ``reverse`` (rooted in the leaves), ``icicle``
    (root on top) and ``min_width`` (pixels below which a frame is not drawn alone) are what the page starts with.
    ``addresses`` keeps addresses without a symbol apart.
    ``subtitle`` defaults to what the recording says of itself.
    """
    value = value or stacks.preferred
    named = named_stacks(stacks, addresses=addresses)
    threads, group = _thread_groups(stacks)
    nodes = len(named.parent)
    pairs, row = distinct(group * nodes + named.node[stacks.stack])
    meta: Meta = {
        "mode": "flame",
        "title": title,
        "subtitle": described(stacks) if subtitle is None else subtitle,
        "notes": [*stacks.notes, *hints(stacks), *notes],
        "losses": stacks.losses,
        "unit": stacks.unit_of(value),
        "counted": stacks.counted,
        "names": name_columns(named.names, named.files),
        "threads": threads,
        "reverse": reverse,
        "icicle": icicle,
        "minWidth": min_width,
    }
    arrays: dict[str, Words] = {
        "parent": named.parent,
        "name": named.name,
        "entryNode": pairs % nodes,
        "entryGroup": pairs // nodes,
        "entryCount": np.bincount(row, weights=stacks.values(value), minlength=len(pairs)).astype(np.int64),
    }
    return data_page(meta, arrays)


def tree_flame_html(
    tree: CallTree, *, title: str, subtitle: str = "", notes: Sequence[str] = (), icicle: bool = False
) -> str:
    """The flame graph page of a call tree, which knows nothing of threads."""
    node = np.flatnonzero(tree.own)
    meta: Meta = {
        "mode": "flame",
        "title": title,
        "subtitle": subtitle,
        "notes": list(notes),
        "losses": {},
        "unit": tree.unit,
        "counted": "samples",
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
    return data_page(meta, arrays)


def diff_flame_html(before: CallTree, after: CallTree, *, title: str, notes: Sequence[str] = ()) -> str:
    """The differential flame graph page: red where a function's share of its recording grew, blue where it shrank.

    Widths are those of ``after`` (the page can switch to ``before``). Shares are of each tree's own total, so that
    recordings of different length compare. Both trees should count the same unit; where they do not, the page
    says so.
    """
    one, two = united(before, after)
    parent, name, names, own_before, own_after = one.parent, one.name, one.names, one.own, two.own
    remarks = list(notes)
    if before.unit != after.unit:
        remarks.append(f"the two recordings count different things: {before.unit} before, {after.unit} after")
    meta: Meta = {
        "mode": "diff",
        "title": title,
        "subtitle": ", ".join(
            f"{when}: {amount(int(tree.total[0]), tree.unit)}"
            for when, tree in (("before", before), ("after", after))
        ),
        "notes": remarks,
        "losses": {},
        "unit": after.unit,
        "counted": "samples",
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
    return data_page(meta, arrays)


def described(stacks: WeightedStacks) -> str:
    """One line on what was recorded: how much over what time, and where."""
    manifest = stacks.manifest
    what = amount(stacks.total_count, stacks.counted)
    if stacks.event not in ("", stacks.counted):
        what += f" of {stacks.event}"
    if stacks.frequency_hz:
        what += f" at {stacks.frequency_hz:,} Hz"
    words = [what]
    if stacks.preferred == "weight" and stacks.unit != stacks.counted:
        words.append(f"{amount(int(stacks.weight.sum()), stacks.unit)} in all")
    if stacks.last_ns > stacks.first_ns:
        words.append(f"recorded over {duration(stacks.last_ns - stacks.first_ns)}")
    words += [each for each in (manifest.host, manifest.kernel) if each]
    return " · ".join(words)


def name_columns(names: list[Name], files: list[str] | None = None) -> Names:
    """``names`` as the pages read them: texts that repeat (module, kind, file) once each, and an index per name."""
    modules: dict[str, int] = {}
    kinds: dict[str, int] = {}
    paths: dict[str, int] = {}
    return {
        "function": [name.function for name in names],
        "module": [modules.setdefault(name.module, len(modules)) for name in names],
        "kind": [kinds.setdefault(name.kind, len(kinds)) for name in names],
        "inlined": [int(name.inlined) for name in names],
        "symbolized": [int(name.symbolized) for name in names],
        "file": [paths.setdefault(path, len(paths)) for path in files or [""] * len(names)],
        "modules": list(modules),
        "kinds": list(kinds),
        "files": list(paths),
    }


def _thread_groups(stacks: WeightedStacks) -> tuple[Threads, I64]:
    """The threads of the rows as the pages read them, and each row's index there; no threads where none is known."""
    used, group = distinct(stacks.thread)
    threads = thread_columns([stacks.threads[at] for at in used.tolist()])
    return threads, group if threads["tid"] else np.zeros(len(group), np.int64)


def thread_columns(threads: Sequence[ThreadLabel]) -> Threads:
    """``threads`` as the pages read them; none where no thread is known."""
    if not any(thread.tid or thread.name for thread in threads):
        return {"tid": [], "pid": [], "comm": []}
    return {
        "tid": [thread.tid for thread in threads],
        "pid": [thread.pid or thread.tid for thread in threads],
        "comm": [thread.name for thread in threads],
    }
