"""The script that accounts the wall time of threads: added up in maps, nothing is sent for a switch.

A thread's word in ``@task`` is the time of its last change of state, above the state. When that ends, its time is
added X
"""

from __future__ import annotations

import os
from typing import Final

from insitu.record.sources.syscalls_call_script import identified
from insitu.record.sources.syscalls_memory_script import indented
from insitu.symbols.btf import Kind
from insitu.symbols.kernel_btf import vmlinux

__all__ = ["FILE", "FUTEX", "SAMPLE_HZ", "STARTED", "wall_text"]

SAMPLE_HZ: Final = 499
# States of a thread. The converter (convert/wall.py) has their meanings.
RUNNING, PREEMPTED, THROTTLED, BLOCKED, WOKEN, WOKEN_THROTTLED, STARTED = range(1, 8)
FILE, FUTEX = 1, 2
"""What the first argument of a call is: a descriptor, or a futex."""

_X86_64: Final = os.uname().machine == "x86_64"
_NUMBER, _FIRST, _IP = ("orig_ax", "di", "ip") if _X86_64 else ("syscallno", "regs[0]", "pc")
_KERNEL_THREAD: Final = 0x200000  # PF_KTHREAD, include/linux/sched.h

_SCRIPT: Final = """
config = { max_map_keys = 65536; print_maps_on_exit = false; missing_probes = warn;
    assign_in_place = true; direct_reads = true; }
let @task = hash(%(threads)d);
let @last_ready = hash(%(threads)d);
let @last_waker = hash(%(threads)d);
let @wall = percpuhash(%(waits)d);
let @samples = percpuhash(65536);

rawtracepoint:sched_switch {
    $now = nsecs(monotonic);
    if ($now > @until) { return; }
    $next = (uint32)args.next.pid;
    $was = @task[$next];
    if ($was.0 != 0) {
        $state = ($was.0 & 7) == %(started)d ? (uint64)%(preempted)d : $was.0 & 7;
        @wall[(uint64)$next | $state << 24 | $was.1 << 32, (uint64)0] = stats($now - ($was.0 >> 3));
        @task[$next] = ($now << 3 | %(running)d, %(kept)s);
    }
    $prev = (uint32)args.prev.pid;
    $was = @task[$prev];
    if ($was.0 != 0 || (@whole != 0 && $prev != 0 && pid != @self)) {
        $ran = $was.2 + ($was.0 != 0 ? $now - ($was.0 >> 3) : (uint64)0);
        $left = (uint64)args.prev_state & 0xdfff;  // without TASK_FREEZABLE
        if ($left & 0x80) {  // TASK_DEAD
            @cpu[$prev] = sum($ran);
            delete(@task[$prev]);
            delete(@last_ready[$prev]);
            delete(@last_waker[$prev]);
            return;
        }
        $what = (uint64)0xfff;
        $object = (uint64)0;
        $holder = (uint64)0;
        $inode = (struct inode *)0;
        $file = (struct file *)0;
        $sp = (uint64)user_regs.sp;
        $ip = (uint64)user_regs.%(ip)s;
        $id = (uint64)0;
        $word = $now << 3 | %(blocked)d;
        $ready = (uint64)(args.preempt || $left == 0);
        if (@whole != 0 && args.prev.flags & %(kernel_thread)d) { $sp = (uint64)0; }
        // Stacks take long. Where the last wait was the same call from the same place, and interruptible too, they
        // are the same; of one that is preempted, those of the call that it is in are taken once.
        if ($ready) {
            $word = $now << 3 | (%(throttled_prev)s ? (uint64)%(throttled)d : (uint64)%(preempted)d);
            $last = @last_ready[$prev];
            if ($last.0 == $ip && $last.1 == $sp) { $id = $last.2; }
        } else {
            if ($sp != 0) {
%(identified)s
                $what = $key;
                $kind = @kind[$key];
                $first = (uint64)user_regs.%(first)s;
                if ($kind == %(futex)d) {
                    $object = $first;
                    // pthread_mutex_t has its owner 8 bytes after the word that is waited for.
                    $owner = (uint64)*(uint32 *)uptr($first + 8);
                    if ($owner != 0 && @task[$owner].0 != 0) { $holder = $owner; }
                } else if ($kind == %(file)d) {
                    $files = args.prev.files.fdt.fd;
                    $file = $files[(uint32)$first];
                    $inode = $file.f_inode;
                    $object = (uint64)$inode.i_ino ^ ((uint64)$inode << 24);
                }
            }
            $what = $what | ($left & 0xc) << 18;  // stopped, traced
            if ($left == 1 && $was.3 == $what && $was.4 == $object && $was.5 == $holder && $was.6 == $ip
                && $was.7 == $sp) { $id = $was.8; }
        }
        $key_object = $object;
        if ($id == 0) {
            if ($file != 0) {
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
            $user = ustack(64);
%(copied)s
            $place = ($what, $object, $holder, kstack(32), $user, $sp);
%(numbered)s
            if ($ready) { @last_ready[$prev] = ($ip, $sp, $id); }
        }
        if ($ready || $left != 1) {
            @task[$prev] = ($word, $id, $ran, %(kept_wait)s);
        } else {
            @task[$prev] = ($word, $id, $ran, $what, $key_object, $holder, $ip, $sp, $id);
        }
    }
}

rawtracepoint:sched_waking {
    $who = (uint32)args.p.pid;
    $was = @task[$who];
    $state = $was.0 & 7;
    if ($state == %(blocked)d || $state == %(started)d) {
        $now = nsecs(monotonic);
        if ($now > @until) { return; }
        $sp = (uint64)user_regs.sp;
        $ip = (uint64)user_regs.%(ip)s;
        // Interrupts use a separate stack. No pointer may be shifted, but what memory holds may.
        $context = (uint64)ctx;
        $interrupt = *(uint64 *)kptr(&$context) >> 14 != (uint64)curtask.stack >> 14;
        $last = @last_waker[tid];
        $id = $last.2;
        if ($interrupt || $last.0 != $ip || $last.1 != $sp || $id == 0) {
            if (curtask.flags & %(kernel_thread)d) { $sp = (uint64)0; }
            $user = ustack(64);
%(copied)s
            $place = ((uint64)0xfff, (uint64)0, (uint64)0, kstack(32), $user, $sp);
%(numbered)s
            @last_waker[tid] = ($ip, (uint64)user_regs.sp, $interrupt ? (uint64)0 : $id);
        }
        @wall[(uint64)$who | $state << 24 | $was.1 << 32, (uint64)tid | $id << 32] = stats($now - ($was.0 >> 3));
        @task[$who] = ($now << 3 | (%(throttled_woken)s ? (uint64)%(woken_throttled)d : (uint64)%(woken)d), %(kept)s);
    }
}

profile:hz:%(hz)d {
    if (@task[tid].0 != 0) {
        $user = ustack(64);
        $sp = (uint64)0;
        if (!usermode) {
            $sp = (uint64)user_regs.sp;
%(copied)s
        }
        @samples[(uint64)tid, (uint64)usermode, kstack(32), $user, $sp] = count();
    }
}

rawtracepoint:sched_process_fork {
    if (@task[tid].0 != 0 || (@whole != 0 && pid != @self)) {
        $child = (uint32)args.child.pid;
        $place = ((uint64)0xfff, (uint64)0, (uint64)0, kstack(32), ustack(64), (uint64)0);
%(numbered)s
        @task[$child] = (nsecs(monotonic) << 3 | %(woken)d, $id, %(nothing)s);
    }
}

rawtracepoint:sched_process_exec {
    $old = (uint32)args.old_pid;
    if (tid == @launched && @task[tid].0 == 0) {
        @task[tid] = (nsecs(monotonic) << 3 | %(running)d, (uint64)0, %(nothing)s);
    } else if ($old != tid && @task[$old].0 != 0) {
        @task[tid] = @task[$old];
        delete(@task[$old]);
    }
}

// What is written from outside only, so that the script has its types.
BEGIN {
    @task[(uint32)0] = ((uint64)0, (uint64)0, %(nothing)s);
    @kind[(uint64)0] = (uint64)0; @given[(uint32)0] = (uint64)0;
    @until = (uint64)0; @whole = (uint64)0; @self = (uint64)0; @launched = (uint64)0; @copies = (uint64)0;
}
"""

# A user stack whose callers frame pointers may not show is copied once, where it is first seen.
_COPIED: Final = """if ($sp != 0 && @copied[$user, $sp] == 0 && @copies > 0) {
    @copied[$user, $sp] = (uint64)1;
    @copies = @copies - 1;
    emit("copy", (sp=$sp, found=$user, user=ustack(dwarf)));
}"""
# Places have numbers, of each CPU its own: two may give one to the same place.
_NUMBERED: Final = """$id = (uint64)@numbers[$place];
if ($id == 0) {
    $id = (@given[cpu] + 1) << 10 | cpu;
    @given[cpu] = $id >> 10;
    @numbers[$place] = $id;
    @places[$id] = $place;
}"""


def wall_text(threads: int) -> str:
    """Returns the script for this kernel, for a machine that has so many threads now."""
    few = threads < 2000  # small maps are faster: their hash tables take fewer entries of the TLB
    task = vmlinux().find("task_struct", Kind.STRUCT)
    queue = vmlinux().find("cfs_rq", Kind.STRUCT)
    if task and any(member.name == "throttled" for member in task.members):  # from 6.18 on
        throttled = "{}.throttled"
    elif queue and any(member.name == "throttle_count" for member in queue.members):
        throttled = "{}.se.cfs_rq.throttle_count > 0"
    else:  # no CONFIG_CFS_BANDWIDTH
        throttled = "0"
    return _SCRIPT % {
        "threads": 8192 if few else 65536,
        "waits": 16384 if few else 65536,
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
        "ip": _IP,
        "throttled_prev": throttled.format("args.prev"),
        "throttled_woken": throttled.format("args.p"),
        "kept": ", ".join(f"$was.{n}" for n in range(1, 9)),
        "kept_wait": ", ".join(f"$was.{n}" for n in range(3, 9)),
        "nothing": ", ".join(["(uint64)0"] * 7),
        "identified": "\n".join(indented(identified(f"user_regs.{_NUMBER}"))),
        "copied": "\n".join(indented(_COPIED.splitlines())),
        "numbered": "\n".join(indented(_NUMBERED.splitlines())),
    }
