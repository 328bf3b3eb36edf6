"""Off-CPU time: when threads of the target leave the CPU and return to it, with their stacks at that time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

from insitu.errors import InsituError
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError, Source
from insitu.record.source import Target
from insitu.record.sources.probe import ProbeSource

__all__ = ["OffCpuSource"]

# In sched_switch the current thread is the one that leaves. Children are followed from their fork. Threads that
# left are kept in @off, so that only their return is recorded.
_SCRIPT: Final = """
config = { max_map_keys = 65536; print_maps_on_exit = false; }
%(begin)s
tracepoint:sched:sched_process_fork %(of_target)s { @target[args.child_pid] = 1; }
tracepoint:sched:sched_process_exit %(of_target)s { delete(@target[tid]); }
tracepoint:sched:sched_switch %(leaves)s {
    @off[tid] = 1;
    emit("out", (state = args.prev_state, kernel = kstack, user = %(ustack)s));
}
tracepoint:sched:sched_switch /@off[args.next_pid]/ {
    delete(@off[args.next_pid]);
    emit("in", (who = args.next_pid));
}
"""


class OffCpuSource(ProbeSource):
    """A script generated for the target; its events become rows of the ``span`` table (convert/off_cpu.py)."""

    id = "off-cpu"

    def __init__(self, *, dwarf_bytes: int = 0) -> None:
        """``dwarf_bytes`` of each user stack are copied and unwound afterwards; 0: follow frame pointers."""
        self._ustack = f"ustack(dwarf, {dwarf_bytes})" if dwarf_bytes else "ustack"
        self._text = io.BytesIO()

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        pids = [target.launched.pid] if target.launched else list(target.pids)
        whole = target.whole_system
        text = _SCRIPT % {
            "begin": "" if whole else f"BEGIN {{ {' '.join(f'@target[{pid}] = 1;' for pid in pids)} }}",
            "of_target": "/0/" if whole else "/@target[pid]/",
            # Those that have ended (X, Z) do not come back.
            "leaves": f"/{'pid' if whole else '@target[pid]'} && !(args.prev_state & 0x30)/",
            "ustack": self._ustack,
        }
        script, context = Source(text, "off-cpu"), Context()
        try:
            compiled = compile_script(script, Options(), context, cached=True)
        except ScriptError as error:  # the script is ours: what failed is the machine's or the user's
            raise InsituError(f"cannot record waits (--off-cpu): {error.plain}", remedy=error.remedy) from None
        super().__init__(
            compiled, script, context, lambda runtime: TextOutput(runtime.loaded, runtime.formatter(), self._text)
        )
        super().open(target)

    def layout(self) -> Mapping[str, Any]:
        """A script's layout, with a converter of its own."""
        return {**super().layout(), "kind": "off_cpu"}

    @property
    def options(self) -> Mapping[str, Any]:
        """How user stacks are recorded."""
        return {"stacks": self._ustack}

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if hasattr(self, "_runtime"):
            super().close()
