"""Names on this machine now, for what is printed while it is traced: of threads, kernel addresses, enumerators."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs

__all__ = ["enumerator", "kernel_symbols", "thread_names", "user_symbols"]


def thread_names(tracefs: Tracefs) -> Callable[[int], str]:
    """What names a thread; one that has ended is named as the kernel remembers it while it traces, else ``<...>``."""
    from insitu.kernel import procfs

    known = {0: "<idle>"}

    def name(tid: int) -> str:
        if tid not in known:
            try:
                known[tid] = os.fsdecode(procfs.comm(tid))
            except OSError:
                known[tid] = _remembered(tracefs, tid)
        return known[tid]

    return name


def _remembered(tracefs: Tracefs, tid: int) -> str:
    """A thread's name in saved_cmdlines, which has the last ones that were traced."""
    try:
        lines = tracefs.read("saved_cmdlines").splitlines()
    except OSError:
        return "<...>"
    names = (name for number, _, name in (line.partition(" ") for line in lines) if number == str(tid))
    return next(names, "<...>")


def kernel_symbols() -> Callable[[int], str]:
    """What shows a kernel address: ``name+0x12``."""
    from insitu.symbols.symbolizer import Symbolizer

    symbols = Symbolizer(live=True)

    def symbol(address: int) -> str:
        found = symbols.kernel_symbol(address)
        return f"{found[0]}+{found[1]:#x}" if found else f"{address:#x}"

    return symbol


def user_symbols() -> Callable[[int, int], str]:
    """What shows an address of a process (its pid, address): ``name+0x12``, also when it has ended since."""
    from insitu.probe.runtime.symbols import Symbols

    symbols = Symbols({})
    symbols.processes.listen(None)

    def symbol(pid: int, address: int) -> str:
        found = symbols.user(address, pid)
        return f"{found[0]}+{found[1]:#x}" if found else f"{address:#x}"

    return symbol


def enumerator(name: str) -> int | None:
    """The value of an enumerator of the kernel, None if it is unknown."""
    from insitu.errors import InsituError
    from insitu.symbols.kernel_btf import vmlinux

    try:
        found = vmlinux().enumerator(name)
    except InsituError:  # a kernel without BTF
        return None
    return found[1] if found else None
