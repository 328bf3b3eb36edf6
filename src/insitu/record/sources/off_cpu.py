"""Off-CPU time: when threads of the target leave the CPU and return to it, with their stacks at that time.

Threads of processes that run already may be asleep when the recording starts: of these, /proc says where they wait.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from insitu.files import new_file
from insitu.kernel import procfs
from insitu.kernel.sleeping import SLEEPING, packed, sleeping_thread
from insitu.record.source import Target
from insitu.record.sources.generated import GeneratedSource

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OffCpuSource"]

# In sched_switch the current thread is the one that leaves. Children are followed from their fork. Threads that
# left are kept in @off, so that only their return is recorded. A kernel may not run programs while certain threads
# have a CPU (docs/why.md): the return of a thread that gets it from such a one is not seen. So each leave has the
# scheduler's own counts, and one that ends while it is in @off is recorded too.
_SCRIPT: Final = """
config = { max_map_keys = 65536; print_maps_on_exit = false; }
%(begin)s
tracepoint:sched:sched_process_fork %(of_target)s { @target[args.child_pid] = 1; }
tracepoint:sched:sched_process_exit %(of_target)s {
    // The main thread may end before others.
    if (tid != pid) { delete(@target[tid]); }
    if (curtask->signal->live.counter == 0) { delete(@target[pid]); }
}
tracepoint:sched:sched_switch %(leaves)s {
    @off[tid] = 1;
    emit("out", (state = args.prev_state, executed = (uint64)curtask.se.sum_exec_runtime,
        switches = (uint64)(curtask.nvcsw + curtask.nivcsw), kernel = kstack, user = %(ustack)s));
}
tracepoint:sched:sched_switch /(args.prev_state & 0x30) && @off[tid]/ {
    delete(@off[tid]);
    emit("gone", (executed = (uint64)curtask.se.sum_exec_runtime,
        switches = (uint64)(curtask.nvcsw + curtask.nivcsw)));
}
%(wakeups)s
tracepoint:sched:sched_switch /@off[args.next_pid]/ {
    delete(@off[args.next_pid]);
    %(back)s
}
"""
_BACK: Final = 'emit("in", (who = args.next_pid));'
# From its wakeup on a thread waits for a CPU only.
_WAKEUPS: Final = "tracepoint:sched:sched_waking /@off[args.pid]/ { @woken[args.pid] = nsecs; }"
_BACK_WOKEN: Final = """$woken = @woken[args.next_pid];
    emit("in", (who = args.next_pid, woken = $woken));
    if ($woken) { delete(@woken[args.next_pid]); }"""


class OffCpuSource(GeneratedSource):
    """A script generated for the target; its events become rows of the ``span`` table (convert/off_cpu.py)."""

    id = "off-cpu"

    def __init__(self, *, dwarf_bytes: int = 0, wakeups: bool = False) -> None:
        """``dwarf_bytes`` of each user stack are copied and unwound afterwards; 0: follow frame pointers.

        ``wakeups``: also for how long threads that were woken had no CPU.
        """
        super().__init__()
        self._wakeups = wakeups
        self._ustack = f"ustack(dwarf, {dwarf_bytes})" if dwarf_bytes else "ustack"
        self._target = Target()

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target = target
        whole = target.whole_system
        text = _SCRIPT % {
            # So that the script has the map's types; start() fills it, and the program cache has one text for all.
            "begin": "" if whole else "BEGIN { @target[0xffffffff] = 1; }",
            "of_target": "/0/" if whole else "/@target[pid]/",
            # Those that have ended (X, Z) do not come back.
            "leaves": f"/{'pid' if whole else '@target[pid]'} && !(args.prev_state & 0x30)/",
            "ustack": self._ustack,
            "wakeups": _WAKEUPS if self._wakeups else "",
            "back": _BACK_WOKEN if self._wakeups else _BACK,
        }
        self.open_script(text, target, "cannot record waits (--off-cpu)")

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach, and write where the threads wait that are asleep now."""
        super().start(directory, start_ns)
        target = self._target
        self.set_target(target.roots)
        if directory is not None:
            with os.fdopen(new_file(directory / SLEEPING), "wb") as file:
                for pid in target.pids:
                    file.writelines(self._asleep(pid))

    def _asleep(self, pid: int) -> Iterator[bytes]:
        """Each sleeping thread of a process, whose return is to be recorded."""
        off = self.map("@off")
        with contextlib.suppress(ProcessLookupError):  # the process has ended
            for tid in procfs.threads(pid):
                with contextlib.suppress(OSError):  # the thread has ended
                    off.update(struct.pack("<Q", tid), struct.pack("<q", 1))
                    # Asleep from now on, or it has left the CPU since it was put there and returns with an event.
                    if (thread := sleeping_thread(pid, tid)) is not None:
                        yield packed(thread)

    def layout(self) -> Mapping[str, Any]:
        """A script's layout, with a converter of its own."""
        return {**super().layout(), "kind": "off_cpu"}

    @property
    def options(self) -> Mapping[str, Any]:
        """How user stacks are recorded."""
        return {"stacks": self._ustack}
