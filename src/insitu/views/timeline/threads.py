"""The threads, processes and machines of a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insitu.session.core_tables import VIRTUAL_CPU
from insitu.session.machines import machines
from insitu.session.reader import Session
from insitu.views.page_data import TIMELINE_ARRAYS

if TYPE_CHECKING:
    import polars

__all__ = ["number_threads"]


def number_threads(session: Session, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    """Number the threads that rows have in ``arrays`` and ``meta``, and add what is known of them to ``meta``.

    Until then the rows have ``utid``.
    """
    columns = [array.name for array in TIMELINE_ARRAYS if array.name.endswith(("Thread", "Waker"))]
    threads = session.sql(
        "select t.utid, t.tid, t.name, p.upid, coalesce(p.pid, 0) as pid, p.exe, p.machine from thread t"
        " left join process p on p.upid = t.upid order by t.utid"
    )
    meta["counters"]["thread"] = _known(meta["counters"]["thread"], threads)
    virtual_cpu, host_thread = _virtual_cpus(session, threads)
    highest = max(
        int(column.max(initial=0)) for column in [threads["utid"].to_numpy(), *(arrays[name] for name in columns)]
    )
    used = np.zeros(highest + 1, np.bool_)
    for name in columns:
        arrays[name] = np.maximum(arrays[name], 0)
        used[arrays[name]] = True
    used[meta["counters"]["thread"]] = True
    used[host_thread] = True
    used[0] = True
    number = np.cumsum(used) - 1
    for name in columns:
        arrays[name] = number[arrays[name]]
    meta["counters"]["thread"] = number[meta["counters"]["thread"]].tolist()
    meta["virtualCpus"] = {"cpu": virtual_cpu, "thread": number[host_thread].tolist()}
    hosts = machines(session)
    rows: Mapping[int, Any] = {row[0]: row[1:] for row in threads.iter_rows()}
    leaders = {(upid, tid): name for tid, name, upid, pid, *_ in rows.values() if tid == pid}
    processes: dict[int, int] = {0: 0}
    pids, names, of_machine = [0], [""], [0]
    shown: dict[str, list[Any]] = {"tid": [0], "comm": [""], "process": [0]}
    for utid in np.flatnonzero(used)[1:].tolist():
        tid, name, upid, pid, exe, machine = rows.get(utid, (0, "", None, 0, "", 0))
        if upid and upid not in processes:
            processes[upid] = len(pids)
            pids.append(pid)
            of_machine.append(machine if 0 < (machine or 0) < len(hosts.name) else 0)
            names.append(leaders.get((upid, pid)) or PurePath(exe or "").name or name or "")
        for column, value in zip(shown.values(), (tid, name or "", processes.get(upid or 0, 0)), strict=True):
            column.append(value)
    meta["threads"], meta["processes"] = shown, {"pid": pids, "name": names, "machine": of_machine}
    meta["machines"] = {"name": hosts.name, "firstCpu": hosts.first_cpu}


def _known(utids: Sequence[int], threads: polars.DataFrame) -> list[int]:
    known = set(threads["utid"].to_list())
    return [utid if utid in known else 0 for utid in utids]


def _virtual_cpus(session: Session, threads: polars.DataFrame) -> tuple[list[int], list[int]]:
    """CPUs of guests, and of each the ``utid`` of the host's thread that runs it."""
    if VIRTUAL_CPU.name not in session.tables:
        return [], []
    found = session.sql(f"select cpu, min(utid) as utid from {VIRTUAL_CPU.name} group by cpu order by cpu")
    known = found.filter(found["utid"].is_in(threads["utid"].implode()), found["cpu"] >= 0, found["utid"] > 0)
    return known["cpu"].to_list(), known["utid"].to_list()
