"""Lowers the ids of the current process and thread."""

from __future__ import annotations

from insitu.kernel.namespaces import pid_namespace
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering

__all__ = ["both_ids", "process_id", "thread_id"]


def both_ids(low: Lowering, *, initial: bool = False) -> str:
    """The process in the high half, the thread in the low one; zeros for one that our PID namespace does not know."""
    emit = low.emit
    namespace = None if initial else pid_namespace()
    if namespace is None:
        return emit.call(Helper.GET_CURRENT_PID_TGID)
    device, inode = namespace
    with low.temporaries():
        slot = low.temporary(8)  # struct bpf_pidns_info: pid, tgid
        emit.store("0", slot)
        emit.call(Helper.GET_NS_CURRENT_PID_TGID, f"i64 {device}", f"i64 {inode}", f"ptr {slot}", "i64 8")
        return emit.load(slot)


def process_id(low: Lowering, *, initial: bool = False) -> str:
    """The i64 of the current process, as our PID namespace (or the initial one) numbers it."""
    return low.emit.op("lshr", both_ids(low, initial=initial), "32")


def thread_id(low: Lowering, *, initial: bool = False) -> str:
    """The i64 of the current thread, as process_id()."""
    return low.emit.op("and", both_ids(low, initial=initial), str(0xFFFFFFFF))
