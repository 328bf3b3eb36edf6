"""Resolves the addresses of a recording: one process map and one symbolizer for all its sources."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.identities import fill_identities
from insitu.convert.processes import Processes, replay
from insitu.convert.stacks import Chains, StackInterner
from insitu.convert.symbolize import Resolver
from insitu.kernel.perf_records import SideRecord
from insitu.session.writer import SessionWriter
from insitu.symbols.registers import machine_called
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import MAX_DEPTH, Unwinder, UserStacks

__all__ = ["Addresses"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


_COPY_MORE: Final = "insitu profile --stacks dwarf,32768 copies more"


class Addresses:
    """Processes, symbols and stacks of one recording. The constructor fills the process and thread tables."""

    def __init__(
        self,
        writer: SessionWriter,
        records: Iterable[SideRecord],
        *,
        build_ids: Mapping[str, str] | None = None,
        live: bool = False,
        kallsyms: bytes | None = None,
        as_perf: bool = False,
        unwinds: bool = False,
        max_stack: int = 0,
        symfs: Path | None = None,
    ) -> None:
        """``records`` say what happened to processes, in the order of time.

        ``live``: recorded on this machine since its last boot.

        ``as_perf`` treats callchains of the kernel as perf script does: no inlined functions, and unwound stacks
        (``unwinds``) end at JIT code. ``max_stack`` is their maximum depth; 0: as perf. ``symfs`` is a directory with
        the files of the machine that the recording is of.
        Raises InsituError when stacks of an unknown architecture are to be unwound.
        """
        self._writer = writer
        self._as_perf = as_perf
        self._max_stack = max_stack or MAX_DEPTH
        self._unwinder: Unwinder | None = None
        self.processes: Processes = replay(records, dict(build_ids or {}))
        self.symbols = Symbolizer(live=live, inlines=unwinds or not as_perf, kallsyms=kallsyms, symfs=symfs)
        self.stacks = StackInterner(writer.stacks, Resolver(self.symbols, self.processes.spaces, writer.frames))
        fill_identities(self.processes, writer)
        for loss in self.processes.lost:
            writer.lost(loss.source, loss.count, cpu=loss.cpu, ts_ns=loss.ts_ns)
        if self.processes.throttled:
            writer.notes.append(f"sampling throttled by the kernel {self.processes.throttled} times")

    def epochs(self, pid: I32, ts_ns: I64) -> I32:
        """The address space of each (process, time); -1: unknown."""
        return self.processes.epochs(pid, ts_ns)

    def nodes(self, chains: Chains, epoch: I32) -> I32:
        """The stack of each callchain."""
        return self.stacks.add(chains, epoch)

    def joined(self, outer: I32, inner: I32) -> I32:
        """Stacks of two parts: the frames of ``inner`` on top of those of ``outer``."""
        return self._writer.stacks.join(outer, inner)

    def unwound(self, stacks: UserStacks) -> tuple[I64, U64]:
        """Offsets (n + 1) and addresses, leaf first, of user stacks that were copied."""
        if self._unwinder is None:
            # Recordings that do not name their architecture (pipes, old perf) are taken to be of this machine's.
            machine = machine_called(self._writer.manifest.machine or os.uname().machine)
            self._unwinder = Unwinder(
                self.processes.spaces,
                self.symbols.open_module,
                machine=machine,
                # JIT code has no call frame information; perf's stacks end there.
                frame_pointers=not self._as_perf,
                max_depth=self._max_stack,
                mark_cut=not self._as_perf,
                trampolines=None if self._as_perf else self.symbols.python_trampolines,
            )
        return self._unwinder.unwind(stacks)

    def finish(self) -> None:
        """Add notes about what could not be resolved, and why."""
        if self._unwinder is not None:
            profiled = any("stacks" in source.get("options", {}) for source in self._writer.manifest.sources)
            self._writer.notes += self._unwinder.notes(_COPY_MORE if profiled else "")
        self._writer.notes += self.symbols.notes
        if self.processes.spaces.crowded:
            self._writer.notes.append(
                "a process replaced its mappings so often that some earlier functions may be named wrong"
            )
