"""Writes the processes, threads and mappings of a replay to the session's tables."""

from insitu.convert.processes import Processes
from insitu.session.core_tables import MAPPING, MODULE
from insitu.session.writer import SessionWriter

__all__ = ["fill_identities"]


def fill_identities(processes: Processes, writer: SessionWriter) -> None:
    """Assign ids to processes and threads, and write modules and mappings."""
    identities = writer.processes
    upids = []
    for process in processes.processes:
        upid = 0
        if process.pid:
            upid = identities.process(process.pid, process.start_ns, parent_pid=process.ppid, exe=process.exe)
            identities.set_process(upid, end_ns=process.end_ns or None)
        upids.append(upid)
    for life in processes.lives:
        if not life.tid:
            continue
        utid = identities.thread(life.tid, upids[life.process], life.start_ns, end_ns=life.end_ns or None)
        for since_ns, name in life.names:
            identities.renamed(utid, since_ns, name)
    modules = processes.spaces.modules
    writer.append(
        MODULE,
        {
            "id": list(range(len(modules))),
            "path": [module.path for module in modules],
            "build_id": [module.build_id for module in modules],
        },
    )
    mapped = list(processes.mappings)
    writer.append(
        MAPPING,
        {
            "upid": [upids[each.process] for each in mapped],
            "start_ns": [each.start_ns for each in mapped],
            "end_ns": [each.end_ns or None for each in mapped],
            "address": [each.mapping.start for each in mapped],
            "length": [each.mapping.end - each.mapping.start for each in mapped],
            "offset": [each.mapping.offset for each in mapped],
            "module": [each.mapping.module for each in mapped],
        },
    )
