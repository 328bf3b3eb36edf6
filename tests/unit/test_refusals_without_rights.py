"""What is said where a user lacks the rights: what is meant, and what would do."""

import errno
import os

import pytest

from insitu.errors import InsituError
from insitu.inspect import stacks
from insitu.kernel import bpf, procfs
from insitu.kernel.perf_event import Attr, Type
from insitu.record import events


def test_ebpf_without_rights_names_them_and_no_object_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    error = bpf.refusal("make map exit", PermissionError(errno.EPERM, "Operation not permitted"))
    assert (str(error), error.errno) == ("eBPF needs root, or CAP_BPF and CAP_PERFMON", errno.EPERM)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    error = bpf.refusal("make map exit", PermissionError(errno.EPERM, "Operation not permitted"))
    assert str(error).startswith("cannot make map exit: Operation not permitted (refused even to root")


def test_kernel_samples_without_rights_are_of_the_clock_where_nothing_counts_cycles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(attr: Attr, **_: int) -> int:
        code = errno.EACCES if not attr.exclude_kernel else errno.ENOENT if attr.type == Type.HARDWARE else 0
        if code:
            raise InsituError(f"refused: type {attr.type}") from OSError(code, os.strerror(code))
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(events, "open_event", opened)
    with pytest.raises(InsituError, match=f"type {int(Type.SOFTWARE)}"):
        events.choose(user=False)


def test_stacks_of_a_process_that_may_not_be_read_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", f"/proc/{pid}/maps")

    monkeypatch.setattr(procfs, "maps_text", refused)
    with pytest.raises(InsituError, match=f"cannot trace process {os.getpid()}: "):
        stacks.stacks(os.getpid())
