"""The script that accounts the wall time of threads: added up in maps, nothing is sent for a switch.

A thread's word in ``@task`` is the time of its last change of state, above the state. When that state ends, its time
is added to what the thread has spent in it at the same place before.
"""

from __future__ import annotations

import os
from typing import Final

from insitu.convert.wall_maps import TASK
from insitu.record.sources.syscalls_call_script import identified
from insitu.record.sources.syscalls_memory_script import indented
from insitu.symbols.btf import Kind
from insitu.symbols.kernel_btf import vmlinux

__all__ = ["BLOCKED", "FILE", "FUTEX", "SAMPLE_HZ", "STARTED", "wall_text"]

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
let @last_waker = lruhash(%(threads)d);
let @interrupts = hash(%(waits)d);
let @wall = hash(%(waits)d);
let @samples = percpuhash(65536);

rawtracepoint:sched_switch {
    $now = nsecs(monotonic);
    if ($now > @until) { return; }
    $next = (uint32)args.next.pid;
    with ($task : @task[$next]) {
        if ($task.word != 0) {
            $state = ($task.word & 7) == %(started)d ? (uint64)%(preempted)d : $task.word & 7;
            $who = (uint64)$next | $state << 24 | $task.place << 32;
            $ns = $now - ($task.word >> 3);
            if ($state == %(preempted)d || $state == %(throttled)d) {
%(cut_counted)s
            } else {
%(woken_counted)s
            }
            $task.word = $now << 3 | %(running)d;
        }
    }
    $prev = (uint32)args.prev.pid;
    if (@whole != 0 && $prev != 0 && pid != @self && !has_key(@task, $prev)) { @task[$prev] = %(new)s; }
    with ($task : @task[$prev]) {
        if ($task.word == 0 && (@whole == 0 || $prev == 0)) { return; }
        $ran = $task.ran;
        $executed = (uint64)args.prev.se.sum_exec_runtime;
        if ($task.word != 0) {
            $state = $task.word & 7;
            $ns = $now - ($task.word >> 3);
            $run = $ns;
            if ($state != %(running)d) {
                // That it came onto the CPU was not seen, nor perhaps its wakeup: kernels do not run programs always.
                // The scheduler knows how long it was on it.
                $before = $task.executed != 0 ? $task.executed : (uint64)args.prev.se.prev_sum_exec_runtime;
                $run = $executed - $before;
                if ($run > $ns || ($state == %(started)d && $run > $ns / 2)) { $run = $ns; }
                $ns = $ns - $run;
                $who = (uint64)$prev | $state << 24 | $task.place << 32;
                if ($ns != 0) {
%(unseen_counted)s
                }
            }
            $ran = $ran + $run;
        }
        $left = (uint64)args.prev_state & 0xdfff;  // without TASK_FREEZABLE
        if ($left & 0x80) {  // TASK_DEAD
%(woken_added)s
%(wait_added)s
%(cut_added)s
            @cpu[$prev] = sum($ran);
            delete(@task[$prev]);
            return;
        }
        $what = (uint64)0xfff;
        $object = (uint64)0;
        $holder = (uint64)0;
        $kind = (uint64)0;
        $inode = (struct inode *)0;
        $file = (struct file *)0;
        $sp = (uint64)user_regs.sp;
        $ip = (uint64)user_regs.%(ip)s;
        $id = (uint64)0;
        $word = $now << 3 | %(blocked)d;
        $ready = (uint64)(args.preempt || $left == 0);
        if (@whole != 0 && args.prev.flags & %(kernel_thread)d) { $sp = (uint64)0; }
        // Stacks take long. Where the last wait was the same call from the same place, and interruptible too, they
        // are the same; of one that is preempted, those of the call that it is in are taken once, and in user code
        // those of the same frame and some hundred bytes of code.
        if ($ready) {
            $word = $now << 3 | (%(throttled_prev)s ? (uint64)%(throttled)d : (uint64)%(preempted)d);
            if ($task.cut_ip >> 8 == $ip >> 8 && $task.cut_sp == $sp) { $id = $task.cut_place; }
        } else {
            if ($sp != 0) {
%(identified)s
                $what = $key;
                $kind = $task.ip == $ip && $task.what == $key ? $task.kind : @kind[$key];
                $first = (uint64)user_regs.%(first)s;
                if ($kind == %(futex)d) {
                    $object = $first;
                    // pthread_mutex_t has its owner 8 bytes after the word that is waited for.
                    $owner = (uint64)*(uint32 *)uptr($first + 8);
                    if ($owner != 0) { with ($other : @task[$owner]) { if ($other.word != 0) { $holder = $owner; } } }
                } else if ($kind == %(file)d) {
                    $files = args.prev.files.fdt.fd;
                    $file = $files[(uint32)$first];
                    $inode = $file.f_inode;
                    $object = (uint64)$inode.i_ino ^ ((uint64)$inode << 24);
                }
            }
            $what = $what | ($left & 0xc) << 18;  // stopped, traced
            if ($left == 1 && $task.what == $what && $task.object == $object && $task.holder == $holder
                && $task.ip == $ip && $task.sp == $sp) { $id = $task.wait_place; }
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
            if ($ready) {
                $task.cut_ip = $ip;
                $task.cut_sp = $sp;
                $task.cut_place = $id;
            } else if ($left == 1) {
                $task.kind = $kind;
                $task.what = $what;
                $task.object = $key_object;
                $task.holder = $holder;
                $task.ip = $ip;
                $task.sp = $sp;
                $task.wait_place = $id;
            }
        }
        $task.word = $word;
        $task.place = $id;
        $task.ran = $ran;
        $task.executed = $executed;
    }
}

rawtracepoint:sched_waking {
    $who = (uint32)args.p.pid;
    with ($task : @task[$who]) {
        $state = $task.word & 7;
        if ($state != %(blocked)d && $state != %(started)d) { return; }
        $now = nsecs(monotonic);
        if ($now > @until) { return; }
        $sp = (uint64)user_regs.sp;
        $ip = (uint64)user_regs.%(ip)s;
        // Interrupts use a separate stack, but not those of user code. That is in no call then, as in a page fault;
        // what page faults wake cannot be interrupted, though. How deep the stack is says which interrupt it is,
        // whatever it has interrupted.
        $in_user = (curtask.flags & %(kernel_thread)d) != 0 ? (uint64)0 : $sp;
        $context = (uint64)ctx;
        $deep = $context & 0x3fff;
        $interrupt = $context >> 14 != (uint64)curtask.stack >> 14;
        $no_call = !$interrupt && $in_user != 0 && (int32)user_regs.%(number)s == -1;
        if ($no_call) { $deep = $deep | 0x4000; }
        $by_interrupt = $interrupt || ($no_call && (args.p.__state & 2) == 0);
        $id = (uint64)0;
        if ($interrupt || $no_call) {
            $id = (uint64)@interrupts[$deep, $task.place];
        } else {
            with ($waker : @task[tid]) {
                if ($waker.waker_ip == $ip && $waker.waker_sp == $sp) { $id = $waker.waker_place; }
            } else {
                with ($last : @last_waker[tid]) { if ($last.0 == $ip && $last.1 == $sp) { $id = $last.2; } }
            }
        }
        if ($id == 0) {
            $user = @nowhere;  // what an interrupt has interrupted woke nobody
            if (!$by_interrupt) {
                $user = ustack(64);
%(copied_waker)s
            }
            $place = ((uint64)0xfff, (uint64)0, (uint64)0, kstack(32), $user, $by_interrupt ? (uint64)0 : $in_user);
%(numbered)s
            if ($interrupt || $no_call) {
                @interrupts[$deep, $task.place] = $id;
            } else {
                with ($waker : @task[tid]) {
                    $waker.waker_ip = $ip;
                    $waker.waker_sp = $sp;
                    $waker.waker_place = $id;
                } else {
                    @last_waker[tid] = ($ip, $sp, $id);
                }
            }
        }
        $waited = (uint64)$who | $state << 24 | $task.place << 32;
        $by = ($by_interrupt ? (uint64)0 : (uint64)tid) | $id << 32;
        $ns = $now - ($task.word >> 3);
        if ($task.wait == $waited && $task.wait_by == $by) {
            $task.wait_times += 1;
            $task.wait_ns += $ns;
        } else {
%(wait_added)s
            $task.wait = $waited;
            $task.wait_by = $by;
            $task.wait_times = (uint64)1;
            $task.wait_ns = $ns;
        }
        $task.word = $now << 3 | (%(throttled_woken)s ? (uint64)%(woken_throttled)d : (uint64)%(woken)d);
    }
}

profile:hz:%(hz)d {
    with ($task : @task[tid]) {
        if ($task.word == 0) { return; }
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
    $counts = (uint64)(@whole != 0 && pid != @self);
    with ($task : @task[tid]) { if ($task.word != 0) { $counts = (uint64)1; } }
    if ($counts) {
        $child = (uint32)args.child.pid;
        $place = ((uint64)0xfff, (uint64)0, (uint64)0, kstack(32), ustack(64), (uint64)0);
%(numbered)s
        @task[$child] = %(new)s;
        with ($task : @task[$child]) {
            $task.word = nsecs(monotonic) << 3 | %(woken)d;
            $task.place = $id;
        }
    }
}

rawtracepoint:sched_process_exec {
    $old = (uint32)args.old_pid;
    if (tid == @launched && @task[tid].word == 0) {
        @task[tid] = %(new)s;
        with ($task : @task[tid]) { $task.word = nsecs(monotonic) << 3 | %(running)d; }
    } else if ($old != tid && @task[$old].word != 0) {
        @task[tid] = @task[$old];
        delete(@task[$old]);
    }
}

// What is written from outside only, so that the script has its types.
BEGIN {
    @task[(uint32)0] = %(new)s;
    @kind[(uint64)0] = (uint64)0; @given[(uint32)0] = (uint64)0;
    if (@until != 0) { @nowhere = ustack(64); }  // never
    @kept = (uint64)0;
    @until = (uint64)0; @whole = (uint64)0; @self = (uint64)0; @launched = (uint64)0; @copies = (uint64)0;
}
"""

# What a thread has waited for again and again is added up in its own element, and here when it waits otherwise.
# Where there are very many different waits, it is not kept who ended further ones, and at last not where they were.
_ADDED: Final = """if ($task.KIND != 0) {
    $what_of = $task.KIND;
    $ended_by = (uint64)BY;
    with ($wall : @wall[$what_of, $ended_by]) {
        $wall.0 += $task.KIND_times;
        $wall.1 += $task.KIND_ns;
    } else {
        if (@kept >= %(half)d) { $ended_by = (uint64)0; }
        if (@kept >= %(most)d) { $what_of = $what_of & 0xffffffff; }
        with ($wall : @wall[$what_of, $ended_by]) {
            $wall.0 += $task.KIND_times;
            $wall.1 += $task.KIND_ns;
        } else {
            @wall[$what_of, $ended_by] = ($task.KIND_times, $task.KIND_ns);
            @kept = @kept + 1;
        }
    }
}"""

_COUNTED: Final = """if ($task.KIND == $who) {
    $task.KIND_times += 1;
    $task.KIND_ns += $ns;
} else {
    ADDED
    $task.KIND = $who;
    $task.KIND_times = (uint64)1;
    $task.KIND_ns = $ns;
}"""

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


def _added(kind: str, waits: int, by: str = "0") -> str:
    text = _ADDED % {"half": waits // 2, "most": waits // 4 * 3}
    return "\n".join(indented(text.replace("KIND", kind).replace("BY", by).splitlines()))


def _counted(kind: str, waits: int) -> str:
    text = _COUNTED.replace("    ADDED", _added(kind, waits)).replace("KIND", kind)
    return "\n".join(indented(text.splitlines()))


def wall_text(threads: int) -> str:
    """Returns the script for this kernel, for a machine that has so many threads now."""
    few = threads < 2000  # small maps are faster: their hash tables take fewer entries of the TLB
    waits = 16384 if few else 65536
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
        "waits": waits,
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
        "number": _NUMBER,
        "ip": _IP,
        "throttled_prev": throttled.format("args.prev"),
        "throttled_woken": throttled.format("args.p"),
        "new": "(" + ", ".join(f"{name}=(uint64)0" for name in TASK) + ")",
        "woken_added": _added("woken", waits),
        "cut_added": _added("cut", waits),
        "wait_added": _added("wait", waits, "$task.wait_by"),
        "woken_counted": _counted("woken", waits),
        "cut_counted": _counted("cut", waits),
        "unseen_counted": _counted("woken", waits),
        "copied_waker": "\n".join(indented(_COPIED.replace("$sp", "$in_user").splitlines())),
        "identified": "\n".join(indented(identified(f"user_regs.{_NUMBER}"))),
        "copied": "\n".join(indented(_COPIED.splitlines())),
        "numbered": "\n".join(indented(_NUMBERED.splitlines())),
    }
