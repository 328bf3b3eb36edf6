"""The script that records system calls: generated once, in the probe language, and filled by maps.

Each thread of the target has a word in ``@task``: the number of its last recorded call (from bit SEQUENCE on, never
the same twice), and what that call is. The records of its entry and exit carry it, so that halves are never joined to
strangers, and lost ones are noticed.
"""

from __future__ import annotations

from typing import Final

from insitu.record.sources.syscalls_call_script import NUMBER, arguments, identified
from insitu.record.sources.syscalls_descriptor_script import described, netlink_protocol, socket_addresses
from insitu.record.sources.syscalls_map_words import (
    EXECVE,
    FOUR_ARGUMENTS,
    ON_FAILURE,
    READS_MORE,
    WORD_MASK,
    WORDS,
    WRITES,
    WRITES_MORE,
)
from insitu.record.sources.syscalls_memory_script import further, indented, placed
from insitu.record.sources.syscalls_signal_script import SIGNALS, killed
from insitu.syscalls import capture_words as words
from insitu.syscalls.call_word import ABI_SHIFT, FIRST, HELD, OPEN, RETRY, SEQUENCE, UNKNOWN

__all__ = ["script_text"]

_ARGUMENTS = "call=$new, a0=$a0, a1=$a1, a2=$a2, a3=$a3, a4=$a4, a5=$a5"
_PREFIX = """
config = { max_map_keys = 65536; max_strlen = 4096; perf_rb_pages = 512;
    print_maps_on_exit = false; missing_probes = warn; }
"""


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
        *arguments("$compat"),
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
        *identified(NUMBER),
        "if (@call[$key] == 0) { return; }",
        f"$new = (($new >> {SEQUENCE}) + 1) << {SEQUENCE} | {OPEN} | $key;",
        f"@task[tid] = $new & ~{OPEN};",
        *arguments("$compat"),
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
        *killed(),
        f"$succeeded = $ret >= 0 || $ret < -4095 || ($call & {ON_FAILURE}) != 0;",
        f"$writes = $call & {WRITES} && $succeeded;",
        # What has most branches comes first:
        # the verifier follows all that is below once for each state that is possible above.
        f"if (!$writes && !($new & {RETRY})) {{",
        '    emit("exit", (call=$new, ret=$ret));',
        "    return;",
        "}",
        f"$compat = (uint64)(($new >> {ABI_SHIFT}) & 3) == 1 ? (uint64)1 : (uint64)0;",
        *arguments("$compat"),
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
"""


# A call that never returns was not sent.
_PENDING: Final = f"        if ($state & {OPEN}) {{ $state = $state - {FIRST}; }}"


def script_text(*, stacks: str = "", describes: int = 0, slower: bool = False, recorded: bool = False) -> str:
    """Returns the script. ``stacks``: how stacks of entries are taken. ``describes``: what descriptors are open on;
    2: with addresses of sockets. ``slower``: only calls that took as long as ``@slower`` says. ``recorded``: what a
    session has besides."""
    executable = '        emit("executable", (path=path(curtask.mm.exe_file)));' if recorded else ""
    pending = _PENDING if slower else ""
    parts = [
        _PREFIX,
        *("rawtracepoint:sys_enter {", *indented(netlink_protocol()), "}"),
        "rawtracepoint:sys_enter {",
        *indented(_enter(stacks=stacks, slower=slower)),
        "}",
        *(["rawtracepoint:sys_exit {", *indented(described()), "}"] if describes else []),
        *(["rawtracepoint:sys_exit {", *indented(socket_addresses()), "}"] if describes > 1 else []),
        *([] if slower else ["rawtracepoint:sys_exit {", *indented(_refused()), "}"]),
        "rawtracepoint:sys_exit {",
        *indented(_exit(stacks=stacks, slower=slower)),
        "}",
        _OTHERS % {"first": FIRST, "pending": pending, "executable": executable},
        SIGNALS,
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
