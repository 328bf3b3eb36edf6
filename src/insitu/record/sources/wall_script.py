"""The script that accounts the wall time of threads: added up in maps, nothing is sent for a switch.

A thread's word in ``@task`` is the time of its last change of state, above the state. When that ends, its time is
added to ``@cpu`` (it ran) or to ``@wall``, under what the thread did when it left the CPU: ``@off``. Samples say what
it did on a CPU.
"""

from __future__ import annotations

import os
from typing import Final

from insitu.record.sources.syscalls_call_script import identified
from insitu.record.sources.syscalls_memory_script import indented
from insitu.symbols.btf import Kind
from insitu.symbols.kernel_btf import vmlinux

__all__ = ["FILE", "FUTEX", "SAMPLE_HZ", "STARTED", "wall_text"]

SAMPLE_HZ: Final = 997
# States of a thread. The converter (convert/wall.py) has their meanings.
RUNNING, PREEMPTED, THROTTLED, BLOCKED, WOKEN, WOKEN_THROTTLED, STARTED = range(1, 8)
FILE, FUTEX = 1, 2
"""What the first argument of a call is: a descriptor, or a futex."""

_X86_64: Final = os.uname().machine == "x86_64"
_NUMBER, _FIRST = ("orig_ax", "di") if _X86_64 else ("syscallno", "regs[0]")
_KERNEL_THREAD: Final = 0x200000  # PF_KTHREAD, include/linux/sched.h

_SCRIPT: Final = """
config = { max_map_keys = 65536; print_maps_on_exit = false; missing_probes = warn; }
let @wall = percpuhash(65536);
let @samples = percpuhash(65536);

rawtracepoint:sched_switch {
    $now = nsecs(monotonic);
    if ($now > @until) { return; }
    $prev = (uint32)args.prev.pid;
    $word = @task[$prev];
    if ($word != 0 || (@whole != 0 && $prev != 0 && pid != @self)) {
        if ($word != 0) { @cpu[$prev] = @cpu[$prev] + ($now - ($word >> 3)); }
        $left = (uint64)args.prev_state;
        if ($left & 0x80) {  // TASK_DEAD
            delete(@task[$prev]);
            delete(@off[$prev]);
            return;
        }
        $regs = user_regs;
        $what = (uint64)0xfff;
        $object = (uint64)0;
        $holder = (uint64)0;
        $sp = (uint64)$regs.sp;
        if (curtask.flags & %(kernel_thread)d) { $sp = (uint64)0; }
        if (args.preempt || $left == 0) {
            @task[$prev] = $now << 3 | (%(throttled_prev)s ? (uint64)%(throttled)d : (uint64)%(preempted)d);
        } else {
            @task[$prev] = $now << 3 | %(blocked)d;
            if ($sp != 0) {
%(identified)s
                $what = $key;
                $kind = @kind[$key];
                $first = (uint64)$regs.%(first)s;
                if ($kind == %(futex)d) {
                    $object = $first;
                    // pthread_mutex_t has its owner 8 bytes after the word that is waited for.
                    $owner = (uint64)*(uint32 *)uptr($first + 8);
                    if ($owner != 0 && @task[$owner] != 0) { $holder = $owner; }
                } else if ($kind == %(file)d) {
                    $files = curtask.files.fdt.fd;
                    $file = $files[(uint32)$first];
                    $inode = $file.f_inode;
                    $object = (uint64)$inode.i_ino ^ ((uint64)$inode.i_sb.s_dev << 44);
                    if ($object != 0 && @seen[$object] == 0) {
                        @seen[$object] = (uint64)1;
                        $sock = (struct socket *)$file.private_data;
                        $sk = ($inode.i_mode & 0xf000) == 0xc000 ? $sock.sk : (struct sock *)0;
                        emit("object", (id=$object, mode=$inode.i_mode, inode=$inode.i_ino,
                            family=$sk.__sk_common.skc_family, port=bswap($sk.__sk_common.skc_dport),
                            local=$sk.__sk_common.skc_num, address=$sk.__sk_common.skc_daddr, path=path($file)));
                    }
                }
            }
            $what = $what | ($left & 0xc) << 18;  // stopped, traced
        }
        $user = ustack(64);
%(copied)s
        @off[$prev] = ($what, $object, $holder, kstack(32), $user, $sp);
    }
    $next = (uint32)args.next.pid;
    $word = @task[$next];
    if ($word != 0) {
        $state = ($word & 7) == %(started)d ? (uint64)%(preempted)d : $word & 7;
        $off = @off[$next];
        @wall[(uint64)$next, $off.0 | $state << 16, $off.1, $off.2, $off.3, $off.4, $off.5,
            (uint64)0, $off.3, $off.4, (uint64)0] = stats($now - ($word >> 3));
        @task[$next] = $now << 3 | %(running)d;
    }
}

rawtracepoint:sched_waking {
    $who = (uint32)args.p.pid;
    $word = @task[$who];
    $state = $word & 7;
    if ($state == %(blocked)d || $state == %(started)d) {
        $now = nsecs(monotonic);
        if ($now > @until) { return; }
        $off = @off[$who];
        $user = ustack(64);
        $regs = user_regs;
        $sp = (uint64)$regs.sp;
        if (curtask.flags & %(kernel_thread)d) { $sp = (uint64)0; }
        $waker = (uint64)tid | (uint64)1 << 32;
%(copied)s
        @wall[(uint64)$who, $off.0 | $state << 16, $off.1, $off.2, $off.3, $off.4, $off.5,
            $waker, kstack(32), $user, $sp] = stats($now - ($word >> 3));
        @task[$who] = $now << 3 | (%(throttled_woken)s ? (uint64)%(woken_throttled)d : (uint64)%(woken)d);
    }
}

profile:hz:%(hz)d {
    if (@task[tid] != 0) {
        $user = ustack(64);
        $sp = (uint64)0;
        if (!usermode) {
            $regs = user_regs;
            $sp = (uint64)$regs.sp;
%(copied)s
        }
        @samples[(uint64)tid, (uint64)usermode, kstack(64), $user, $sp] = count();
    }
}

rawtracepoint:sched_process_fork {
    if (@task[tid] != 0 || (@whole != 0 && pid != @self)) {
        $child = (uint32)args.child.pid;
        @task[$child] = nsecs(monotonic) << 3 | %(woken)d;
        @off[$child] = ((uint64)0xfff, (uint64)0, (uint64)0, kstack(32), ustack(64), (uint64)0);
    }
}

rawtracepoint:sched_process_exec {
    $old = (uint32)args.old_pid;
    if (tid == @launched && @task[tid] == 0) {
        @task[tid] = nsecs(monotonic) << 3 | %(running)d;
    } else if ($old != tid && @task[$old] != 0) {
        @task[tid] = @task[$old];
        delete(@task[$old]);
    }
}

// What is written from outside only, so that the script has its types.
BEGIN {
    @task[(uint32)0] = (uint64)0; @cpu[(uint32)0] = (uint64)0; @kind[(uint64)0] = (uint64)0;
    @until = (uint64)0; @whole = (uint64)0; @self = (uint64)0; @launched = (uint64)0; @copies = (uint64)0;
}
"""

# A user stack whose callers frame pointers may not show is copied once, where it is first seen.
_COPIED: Final = """if ($sp != 0 && @copied[$user, $sp] == 0 && @copies > 0) {
    @copied[$user, $sp] = (uint64)1;
    @copies = @copies - 1;
    emit("copy", (sp=$sp, found=$user, user=ustack(dwarf)));
}"""


def wall_text() -> str:
    """Returns the script for this kernel."""
    task = vmlinux().find("task_struct", Kind.STRUCT)
    queue = vmlinux().find("cfs_rq", Kind.STRUCT)
    if task and any(member.name == "throttled" for member in task.members):  # from 6.18 on
        throttled = "{}.throttled"
    elif queue and any(member.name == "throttle_count" for member in queue.members):
        throttled = "{}.se.cfs_rq.throttle_count > 0"
    else:  # no CONFIG_CFS_BANDWIDTH
        throttled = "0"
    return _SCRIPT % {
        "hz": SAMPLE_HZ,
        "kernel_thread": _KERNEL_THREAD,
        "running": RUNNING,
        "preempted": PREEMPTED,
        "throttled": THROTTLED,
        "blocked": BLOCKED,
        "woken": WOKEN,
        "woken_throttled": WOKEN_THROTTLED,
        "started": STARTED,
        "file": FILE,
        "futex": FUTEX,
        "first": _FIRST,
        "throttled_prev": throttled.format("args.prev"),
        "throttled_woken": throttled.format("args.p"),
        "identified": "\n".join(indented(identified(f"$regs.{_NUMBER}"))),
        "copied": "\n".join(indented(_COPIED.splitlines())),
    }
