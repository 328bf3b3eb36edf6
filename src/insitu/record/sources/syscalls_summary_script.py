"""The script that counts system calls in maps, for -c."""

from __future__ import annotations

from insitu.record.sources.syscalls_call_script import identified
from insitu.record.sources.syscalls_map_words import EXECVE
from insitu.record.sources.syscalls_memory_script import indented

__all__ = ["summary_text"]

# A thread's word is the time at which it entered its last call, above the call's key. Times on a CPU: what a thread
# was away from it while in the call is taken off.
_SUMMARY = """
config = { max_map_keys = 65536; print_maps_on_exit = false; missing_probes = warn; }
let @took = percpuhash(1024);

rawtracepoint:sys_enter {
    $word = @task[tid];
    if ($word == 0 && (@whole == 0 || pid == @self)) { return; }
%(identified)s
    if (@call[$key] == 0 || ($word == 2 && $key != %(execve)d && $key != %(execveat)d)) {
        if ($word > 2) { @task[tid] = (uint64)1; }
        return;
    }
    if (@away[tid] != 0) { delete(@away[tid]); }
    @task[tid] = (nsecs - @began) << 14 | $key;
}

rawtracepoint:sys_exit {
    $word = @task[tid];
    if ($word <= 2) { return; }
    $key = $word & 0x3fff;
    $wall = nsecs - @began - ($word >> 14);
    $away = @away[tid];
    @took[$key] = hist($wall, 4);
    @wall[$key] = sum($wall);
    @system[$key] = sum($away < $wall ? $wall - $away : (uint64)0);
    @least[$key] = min($wall);
    @most[$key] = max($wall);
    if (args.ret < 0 && args.ret >= -4095) { @failed[$key] = count(); }
}

rawtracepoint:sched_switch {
    $from = (uint32)args.prev.pid;
    if (@task[$from] > 2) { @out[$from] = nsecs; }
    $to = (uint32)args.next.pid;
    $since = @out[$to];
    if ($since != 0) {
        delete(@out[$to]);
        @away[$to] = @away[$to] + (nsecs - $since);
    }
}

rawtracepoint:sched_process_fork {
    if (@task[tid] != 0 || (@whole != 0 && pid != @self)) {
        $child = (uint32)args.child.pid;
        @task[$child] = (uint64)1;
    }
}

rawtracepoint:sched_process_exec {
    $old = (uint32)args.old_pid;
    if ($old != tid && @task[$old] != 0) {
        @task[tid] = @task[$old];
        delete(@task[$old]);
    }
}

rawtracepoint:sched_process_exit {
    if (@task[tid] != 0) { delete(@task[tid]); }
    if (@away[tid] != 0) { delete(@away[tid]); }
}

BEGIN {
    @began = nsecs - 1; @call[(uint64)0] = (uint64)0; @whole = (uint64)0; @self = (uint64)0;
    @task[(uint32)0] = (uint64)0; @away[(uint32)0] = (uint64)0; @out[(uint32)0] = (uint64)0;
}
"""


def summary_text() -> str:
    """Returns the script that counts calls."""
    call = "\n".join(indented(identified()))
    return _SUMMARY % {"identified": call, "execve": EXECVE[0], "execveat": EXECVE[1]}
