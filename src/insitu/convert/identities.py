"""The processes, threads and mappings that a replay found, in the session's tables."""

from insitu.convert.processes import Processes
from insitu.session.core_tables import MAPPING, MODULE
from insitu.session.writer import SessionWriter

__all__ = ["fill_identities"]


def fill_identities(processes: Processes, writer: SessionWriter) -> None:
    """Give every process and thread its id, and write what was mapped."""
    identities = writer.processes
    alive: dict[int, tuple[int, int, int]] = {}  # tid -> utid, pid, end of its last life
    upids: dict[int, int] = {0: 0}
    for life in processes.threads:
        if life.tid == 0:
            continue
        known = alive.get(life.tid)
        if known is not None and known[1] == life.pid and known[2] == life.start_ns:  # renamed
            utid = known[0]
            identities.renamed(utid, life.start_ns, life.comm)
        else:
            if life.pid not in upids or (life.tid == life.pid and known is not None):
                upids[life.pid] = identities.process(life.pid, life.start_ns, parent_pid=life.ppid)
            utid = identities.thread(life.tid, life.pid, life.start_ns, name=life.comm)
        if life.tid == life.pid and life.exe:
            identities.set_process(upids[life.pid], exe=life.exe)
        if life.end_ns:
            identities.ended(utid, life.end_ns)
            if life.tid == life.pid:
                identities.set_process(upids[life.pid], end_ns=life.end_ns)
        alive[life.tid] = (utid, life.pid, life.end_ns)
    modules = processes.spaces.modules
    writer.append(
        MODULE,
        {
            "id": list(range(len(modules))),
            "path": [module.path for module in modules],
            "build_id": [module.build_id for module in modules],
        },
    )
    mapped = [(upids.get(pid, 0), mapping) for pid, mapping in processes.mapped]
    writer.append(
        MAPPING,
        {
            "upid": [upid for upid, _ in mapped],
            "start_ns": [0] * len(mapped),
            "end_ns": [None] * len(mapped),
            "address": [mapping.start for _, mapping in mapped],
            "length": [mapping.end - mapping.start for _, mapping in mapped],
            "offset": [mapping.offset for _, mapping in mapped],
            "module": [mapping.module for _, mapping in mapped],
        },
    )
