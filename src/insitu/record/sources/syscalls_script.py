"""The script that records system calls: generated once, in the probe language, and filled by maps.

Each thread of the target has a word in ``@task``: the number of its last recorded call (from bit SEQUENCE on, never
the same twice), and what that call is. The records of its entry and exit carry it, so that halves are never joined to
strangers, and lost ones are noticed.
"""

from __future__ import annotations

import os
from typing import Final

from insitu.record.sources.syscalls_map_words import (
    EXECVE,
    FOUR_ARGUMENTS,
    ON_FAILURE,
    OPENS_PAIR,
    OPENS_PAIR_AT_3,
    READS_MORE,
    WORD_MASK,
    WORDS,
    WRITES,
    WRITES_MORE,
)
from insitu.record.sources.syscalls_memory_script import further, indented, placed
from insitu.syscalls import capture_words as words
from insitu.syscalls.call_word import ABI_SHIFT, FIRST, HELD, OPEN, RETRY, SEQUENCE, UNKNOWN

__all__ = ["identified", "script_text"]

_X86_64: Final = os.uname().machine == "x86_64"

# Members of struct pt_regs. Read one by one: a copy of them would take a quarter of a program's stack.
_NATIVE = ("di", "si", "dx", "r10", "r8", "r9") if _X86_64 else tuple(f"regs[{n}]" for n in range(6))
_NUMBER = "args.regs.orig_ax" if _X86_64 else "args.regs.syscallno"
_I386 = ("bx", "cx", "dx", "si", "di", "bp")

_PREFIX = """
config = { max_map_keys = 65536; max_strlen = 4096; perf_rb_pages = 512;
    print_maps_on_exit = false; missing_probes = warn; }
"""


def _arguments(compat: str) -> list[str]:
    """$a0 to $a5."""
    lines = [f"$a{n} = (uint64)args.regs.{name};" for n, name in enumerate(_NATIVE)]
    if _X86_64:
        lines.append(f"if ({compat}) {{")
        lines += [f"    $a{n} = (uint64)args.regs.{name} & 0xffffffff;" for n, name in enumerate(_I386)]
        lines.append("}")
    return lines


# arch/x86/include/asm/thread_info.h: TS_COMPAT; include/uapi/asm/unistd.h: __X32_SYSCALL_BIT.
_ABI = (
    "$compat = (uint64)(curtask.thread_info.status & 2) != 0 ? (uint64)1 : (uint64)0;"
    if _X86_64
    else "$compat = (uint64)(curtask.thread_info.flags & 0x400000) != 0 ? (uint64)1 : (uint64)0;"
)
_ARGUMENTS = "call=$new, a0=$a0, a1=$a1, a2=$a2, a3=$a3, a4=$a4, a5=$a5"


def _enter(*, stacks: str, slower: bool) -> list[str]:
    """At entry. ``slower``: the entry is sent at the call's exit, if that was long in coming."""
    lines = [
        "$state = @task[tid];",
        "if ($state == 0) {",
        "    if (@whole == 0 || pid == @self) { return; }",
        f"    $state = (uint64){FIRST};",
        "}",
        *identified(),
        "$call = @call[$key];",
        f"if ($call == 0 || ($state & {HELD} && $key != {EXECVE[0]} && $key != {EXECVE[1]})) {{",
        f"    if ($state & {OPEN}) {{ @task[tid] = $state & ~{OPEN}; }}",
        "    return;",
        "}",
        f"$new = (($state >> {SEQUENCE}) + 1) << {SEQUENCE} | {OPEN} | $key;",
    ]
    if slower:
        return [*lines, "@task[tid] = $new;", "@since[tid] = nsecs(monotonic);"]
    return [*lines, *_send_enter(stacks=stacks, then="@task[tid] = $new;")]


def _send_enter(*, stacks: str, then: str = "") -> list[str]:
    """The records of an entry; ``then`` is run when $new is complete."""
    return [
        *_arguments("$compat"),
        f"$first = ($call >> {WORDS}) & {WORD_MASK};",
        "$address = (uint64)0;",
        "$size = (uint64)0;",
        "$how = (uint64)0;",
        "if ($first != 0) {",
        *indented(placed("$first", "(uint64)0")),
        f"    if ($address != 0 && !user_readable($address)) {{ $new = $new | {RETRY}; }}",
        "}",
        *([then] if then else []),
        f"if ($call & {READS_MORE}) {{",
        *indented(further("$key", 0, "(uint64)0")),
        "}",
        *([f'emit("stack", (call=$new, user={stacks}));'] if stacks else []),
        "if ($address != 0) {",
        f"    if ($how == {words.STRING}) {{",
        f'        emit("enter_memory", ({_ARGUMENTS}, address=$address, data=user_string($address, $size)));',
        "    } else {",
        f'        emit("enter_memory", ({_ARGUMENTS}, address=$address, data=user_bytes($address, $size)));',
        "    }",
        f"}} else if ($call & {FOUR_ARGUMENTS} || $low == {UNKNOWN}) {{",
        f'    emit("enter", (nr=$nr, {_ARGUMENTS}));',
        "} else {",
        '    emit("enter_short", (call=$new, a0=$a0, a1=$a1, a2=$a2));',
        "}",
    ]


def _drop_short(*, stacks: str) -> list[str]:
    """At exit: calls that were short have not been, of the others the entry is sent."""
    return [
        "$since = @since[tid];",
        f"if (nsecs(monotonic) - $since < @slower) {{ @task[tid] = ($new - {1 << SEQUENCE}) & ~{OPEN}; return; }}",
        "$compat = (uint64)(($new >> 12) & 3) == 1 ? (uint64)1 : (uint64)0;",
        f"$low = $new & {UNKNOWN};",
        "$nr = $low;",
        'emit("began", (call=$new, at=$since));',
        *_send_enter(stacks=stacks),
    ]


def _refused() -> list[str]:
    """An exit without an entry: a seccomp filter has refused the call (kernel/entry/common.c). A program of its own,
    in front of the exit's, which has no stack left."""
    return [
        "if (args.ret >= 0 || args.ret < -4095) { return; }",
        "$new = @task[tid];",
        f"if ($new == 0 || $new & {OPEN | HELD}) {{ return; }}",
        *identified(_NUMBER),
        "if (@call[$key] == 0) { return; }",
        f"$new = (($new >> {SEQUENCE}) + 1) << {SEQUENCE} | {OPEN} | $key;",
        f"@task[tid] = $new & ~{OPEN};",
        *_arguments("$compat"),
        f'emit("enter", (nr=$nr, {_ARGUMENTS}));',
        'emit("exit", (call=$new, ret=args.ret));',
    ]


def _exit(*, stacks: str, slower: bool) -> list[str]:
    return [
        "$new = @task[tid];",
        f"if (($new & {OPEN}) == 0) {{ return; }}",
        "$ret = args.ret;",
        "$key = $new & 0x3fff;",
        "$call = @call[$key];",
        *(_drop_short(stacks=stacks) if slower else []),
        f"$succeeded = $ret >= 0 || $ret < -4095 || ($call & {ON_FAILURE}) != 0;",
        f"$writes = $call & {WRITES} && $succeeded;",
        # What has most branches comes first:
        # the verifier follows all that is below once for each state that is possible above.
        f"if (!$writes && !($new & {RETRY})) {{",
        '    emit("exit", (call=$new, ret=$ret));',
        "    return;",
        "}",
        f"$compat = (uint64)(($new >> {ABI_SHIFT}) & 3) == 1 ? (uint64)1 : (uint64)0;",
        *_arguments("$compat"),
        f"if (($writes && $call & {WRITES_MORE}) || $new & {RETRY}) {{",
        *indented(further("$key", 1, "(uint64)$ret")),
        "}",
        f"$first = $call >> {WORDS + words.WORD_BITS};",
        "if ($writes && $first != 0) {",
        *indented(placed("$first", "(uint64)$ret")),
        f"    if ($how == {words.STRING}) {{",
        '        emit("exit_memory", (call=$new, ret=$ret, address=$address, data=user_string($address, $size)));',
        "    } else {",
        '        emit("exit_memory", (call=$new, ret=$ret, address=$address, data=user_bytes($address, $size)));',
        "    }",
        "} else {",
        '    emit("exit", (call=$new, ret=$ret));',
        "}",
    ]


def _described() -> list[str]:
    """At exit, before the exit is sent: what new descriptors are open on. A program of its own: the verifier takes as
    long for this as for all the rest, and longer for both in a row."""
    return [
        "$new = @task[tid];",
        "if (($new == 0 && (@whole == 0 || pid == @self)) || args.ret < 0) { return; }",
        # Of all calls that make descriptors, whether they are recorded or not.
        *identified(_NUMBER),
        "$call = @opens[$key];",
        "if ($call == 0) { return; }",
        "$fd = (uint64)args.ret;",
        "$other = (uint64)0xffffffff;",
        f"if ($call & {OPENS_PAIR}) {{",
        *indented(_arguments("$compat")),
        f"    $pair = $call & {OPENS_PAIR_AT_3} ? $a3 : $a0;",
        "    $fd = (uint64)*(uint32 *)uptr($pair);",
        "    $other = (uint64)*(uint32 *)uptr($pair + 4);",
        "}",
        "$files = curtask.files.fdt.fd;",
        "$file = $files[$fd];",
        "$inode = $file.f_inode;",
        "$inode2 = $other != 0xffffffff ? $files[$other].f_inode.i_ino : 0;",
        'emit("descriptor", (call=$new, fd=$fd, mode=$inode.i_mode, inode=$inode.i_ino, fd2=$other, inode2=$inode2,',
        "    path=path($file)));",
    ]


def identified(number: str = "args.id") -> list[str]:
    """$nr, $abi and $key of the call with a number, $low of its number what the key has room for."""
    lines = [f"$nr = (uint64){number};", _ABI, "$abi = $compat;"]
    if _X86_64:
        lines += [
            "if ($compat == 0 && $nr & 0x40000000 && $nr != 0xffffffffffffffff) {",
            "    $abi = (uint64)2;",
            "    $nr = $nr & ~0x40000000;",
            "}",
        ]
    return [
        *lines,
        f"$low = $nr < {UNKNOWN} ? $nr : (uint64){UNKNOWN};",
        f"$key = $abi << {ABI_SHIFT} | $low;",
    ]


_OTHERS = """
rawtracepoint:sched_process_fork {
    if (@task[tid] != 0 || (@whole != 0 && pid != @self)) {
        $child = (uint32)args.child.pid;
        @task[$child] = (uint64)%(first)d;
        emit("forked", (child_pid=args.child.tgid, child_tid=args.child.pid));
    }
}

rawtracepoint:sched_process_exec {
    $old = (uint32)args.old_pid;
    $state = @task[$old];
    if ($state != 0) {
        if ($old != tid) {
            @task[tid] = $state;
            delete(@task[$old]);
        }
        $strings = curtask.mm.arg_start;
        $bytes = curtask.mm.arg_end - $strings;
        emit("executed", (call=$state, old_tid=args.old_pid, data=user_bytes($strings, $bytes)));
        emit("program", (call=$state, path=str(args.bprm.filename)));
%(executable)s
    }
}

rawtracepoint:sched_process_exit {
    $state = @task[tid];
    if ($state != 0) {
        delete(@task[tid]);
%(pending)s
        emit("exited", (call=$state, status=curtask.exit_code));
    }
}

rawtracepoint:signal_deliver {
    if (@task[tid] != 0) {
        $i = args.info;
        // What kills a process is delivered as SIGKILL to each of its threads.
        $killed = (uint64)curtask.signal.group_exit_code & 0x7f;
        $number = args.sig == 9 && $killed != 0 ? $killed : (uint64)args.sig;
        emit("signal", (number=$number, code=$i.si_code, errno=$i.si_errno,
            sender_pid=$i._sifields._kill._pid, sender_uid=$i._sifields._kill._uid,
            status=$i._sifields._sigchld._status, utime=$i._sifields._sigchld._utime,
            stime=$i._sifields._sigchld._stime, address=$i._sifields._sigfault._addr,
            value=$i._sifields._rt._sigval.sival_ptr));
    }
}
"""


# A call that never returns was not sent.
_PENDING: Final = f"        if ($state & {OPEN}) {{ $state = $state - {FIRST}; }}"


def script_text(*, stacks: str = "", describes: bool = False, slower: bool = False, recorded: bool = False) -> str:
    """Returns the script. ``stacks``: how stacks of entries are taken. ``describes``: what descriptors are open on.
    ``slower``: only calls that took as long as ``@slower`` says. ``recorded``: what a session has besides."""
    executable = '        emit("executable", (path=path(curtask.mm.exe_file)));' if recorded else ""
    pending = _PENDING if slower else ""
    parts = [
        _PREFIX,
        "rawtracepoint:sys_enter {",
        *indented(_enter(stacks=stacks, slower=slower)),
        "}",
        *(["rawtracepoint:sys_exit {", *indented(_described()), "}"] if describes else []),
        *([] if slower else ["rawtracepoint:sys_exit {", *indented(_refused()), "}"]),
        "rawtracepoint:sys_exit {",
        *indented(_exit(stacks=stacks, slower=slower)),
        "}",
        _OTHERS % {"first": FIRST, "pending": pending, "executable": executable},
        # What is written from outside only, so that the script has its types.
        "BEGIN {",
        *indented(
            f"@{name}[(uint64)0] = (uint64)0;" if name != "task" else "@task[(uint32)0] = (uint64)0;"
            for name in ("call", "more", "chosen", "opens", "task")
        ),
        *indented(f"@{name} = (uint64)0;" for name in ("limit", "whole", "self", "slower")),
        "}",
    ]
    return "\n".join(parts)
