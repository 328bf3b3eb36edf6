"""A profile as the tables of a session, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from insitu.convert.build import Built
from insitu.session import store
from insitu.session.profile import Lost, Profile, Thread, stack_depths
from insitu.session.schema import TABLES, TEXT
from insitu.symbols.frame import Frame

if TYPE_CHECKING:
    import polars

__all__ = ["read_profile", "table_frame", "write_profile"]

_SAMPLES_PER_FILE = 1 << 22


def table_frame(table: str, columns: Mapping[str, Any]) -> "polars.DataFrame":
    """A Polars frame of a known table: ``columns`` (arrays or lists of one length) in the schema's types."""
    import polars as pl

    series = []
    for name, kind in TABLES[table].items():
        values = columns[name]
        if kind == TEXT:
            series.append(values if isinstance(values, pl.Series) else pl.Series(name, values, dtype=pl.String))
        else:
            series.append(pl.Series(name, np.asarray(values, kind)))
    return pl.DataFrame(series)


def write_profile(path: Path, built: Built) -> None:
    """Write all tables of a profile into the session at ``path``."""
    import polars as pl

    profile, processes = built.profile, built.processes
    frames = profile.frames
    by_field = list(zip(*frames, strict=True)) if frames else [()] * len(Frame._fields)
    columns = dict(zip(Frame._fields, by_field, strict=True))
    store.write_table(path, "frame", table_frame("frame", {"id": np.arange(len(frames)), **columns}))
    nodes = len(profile.stack_parent)
    stack = {
        "id": np.arange(nodes),
        "parent": profile.stack_parent,
        "frame": profile.stack_frame,
        "depth": stack_depths(profile.stack_parent),
    }
    store.write_table(path, "stack", table_frame("stack", stack))
    names = pl.Series("event", profile.events or [""], dtype=pl.Categorical)
    for part, start in enumerate(range(0, max(len(profile), 1), _SAMPLES_PER_FILE)):
        rows = slice(start, start + _SAMPLES_PER_FILE)
        sample = {
            "ts_ns": profile.ts_ns[rows],
            "cpu": profile.cpu[rows],
            "tid": profile.tid[rows],
            "stack": profile.stack[rows],
            "event": names.gather(profile.event[rows]),
            "weight": profile.weight[rows],
        }
        store.write_table(path, "sample", table_frame("sample", sample), part)
    threads = dict(zip(Thread._fields, zip(*profile.threads, strict=True), strict=True)) if profile.threads else {}
    store.write_table(
        path, "thread", table_frame("thread", {name: threads.get(name, ()) for name in TABLES["thread"]})
    )
    modules = processes.spaces.modules
    mapping = {
        "pid": [pid for pid, _ in processes.mapped],
        "start": [m.start for _, m in processes.mapped],
        "end": [m.end for _, m in processes.mapped],
        "offset": [m.offset for _, m in processes.mapped],
        "path": [modules[m.module].path for _, m in processes.mapped],
        "build_id": [modules[m.module].build_id for _, m in processes.mapped],
    }
    store.write_table(path, "mapping", table_frame("mapping", mapping))
    lost = {
        "ts_ns": [loss.ts_ns for loss in profile.lost],
        "source": [loss.source for loss in profile.lost],
        "cpu": [loss.cpu for loss in profile.lost],
        "count": [loss.count for loss in profile.lost],
    }
    store.write_table(path, "lost", table_frame("lost", lost))


def read_profile(path: Path, info: Mapping[str, Any]) -> Profile:
    """The profile that a session's tables hold; an absent table counts as empty.

    Raises InsituError when a table cannot be read or refers to what is not there.
    """
    import polars as pl

    files = store.table_files(path)

    def table(name: str) -> pl.DataFrame:
        if name not in files:
            return table_frame(name, dict.fromkeys(TABLES[name], ()))
        return store.read_table(files[name], list(TABLES[name]))

    sample, frame, stack, thread, lost = (table(name) for name in ("sample", "frame", "stack", "thread", "lost"))
    event = sample.get_column("event").cast(pl.Categorical)
    frame_fields = [name for name in Frame._fields if name in frame.columns]  # format 1 has no "symbolized"
    profile = Profile(
        frames=[Frame(*row) for row in frame.select(frame_fields).iter_rows()],
        stack_parent=_column(stack, "parent", np.int32),
        stack_frame=_column(stack, "frame", np.int32),
        ts_ns=_column(sample, "ts_ns", np.int64),
        cpu=_column(sample, "cpu", np.int32),
        tid=_column(sample, "tid", np.int32),
        stack=_column(sample, "stack", np.int32),
        event=np.zeros(0, np.int32),
        weight=_column(sample, "weight", np.int64),
        events=[],
        threads=[Thread(*row) for row in thread.select(Thread._fields).iter_rows()],
        lost=[Lost(*row) for row in lost.select("ts_ns", "source", "cpu", "count").iter_rows()],
        info=dict(info),
    )
    del sample
    profile.event, profile.events = _codes(event)
    _check(path, profile)
    return profile


def _codes(event: "polars.Series") -> tuple[Any, list[str]]:
    """Categories as indices from 0 on and their names (Polars' own codes may be shared with other columns)."""
    from insitu.session.distinct import distinct

    used, index = distinct(event.to_physical().to_numpy())
    names = event.unique()
    by_code = dict(zip(names.to_physical().to_list(), names.to_list(), strict=True))
    return index.astype(np.int32), [by_code[int(code)] for code in used]


def _column(frame: "polars.DataFrame", name: str, kind: Any) -> Any:
    return frame.get_column(name).to_numpy().astype(kind, copy=False)


def _check(path: Path, profile: Profile) -> None:
    """Ids that point outside their tables (a damaged or forged session) must not reach the views."""
    from insitu.errors import InsituError

    nodes = len(profile.stack_parent)
    if not nodes:
        profile.stack_parent, profile.stack_frame = np.zeros(1, np.int32), np.full(1, -1, np.int32)
        nodes = 1
    inside = (
        (profile.stack_parent[1:] < np.arange(1, nodes)).all()
        and (profile.stack_parent >= 0).all()
        and (profile.stack_frame < len(profile.frames)).all()
        and (profile.stack_frame[1:] >= 0).all()
        and (profile.stack_parent[0] == 0)
        and (not len(profile) or (profile.stack.min() >= 0 and profile.stack.max() < nodes))
    )
    if not inside:
        raise InsituError(f"{path}: damaged: its stacks refer to frames or stacks that are not there")
