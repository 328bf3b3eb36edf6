"""The script that records system calls: generated once, in the probe language, and filled by maps.

Each thread of the target has a word in ``@task``: the number of its last recorded call (from bit SEQUENCE on, never
the same twice), and what that call is. The records of its entry and exit carry it, so that halves are never joined to
strangers, and lost ones are noticed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from insitu.syscalls import capture_words as words
from insitu.syscalls.call_word import ABI_SHIFT, FIRST, HELD, OPEN, RETRY, SEQUENCE, UNKNOWN
from insitu.syscalls.capture import Array, Bytes, Capture, Linked, String

__all__ = [
    "FOUR_ARGUMENTS",
    "MOST_STRING",
    "ON_FAILURE",
    "OPENS",
    "OPENS_PAIR",
    "OPENS_PAIR_AT_3",
    "READS_MORE",
    "WANTED",
    "WORDS",
    "WRITES",
    "WRITES_MORE",
    "script_text",
    "summary_text",
]

MOST_STRING: Final = 4096

# Bits of a call's word in @call. Above them are the word of what its entry reads, and of its exit.
WORDS: Final = 12
_WORD_MASK: Final = (1 << words.WORD_BITS) - 1
WANTED: Final = 1
READS_MORE: Final = 2
FOUR_ARGUMENTS: Final = 4
"""More than three."""
WRITES: Final = 8
WRITES_MORE: Final = 16
OPENS: Final = 32
"""It returns a descriptor."""
OPENS_PAIR: Final = 64
"""It writes two of them to where the first argument points, with OPENS_PAIR_AT_3 the fourth."""
OPENS_PAIR_AT_3: Final = 128
ON_FAILURE: Final = 256
"""It writes even where it fails."""

_X86_64: Final = os.uname().machine == "x86_64"

# Members of struct pt_regs. Read one by one: a copy of them would take a quarter of a program's stack.
_NATIVE = ("di", "si", "dx", "r10", "r8", "r9") if _X86_64 else tuple(f"regs[{n}]" for n in range(6))
_NUMBER = "args.regs.orig_ax" if _X86_64 else "args.regs.syscallno"
_I386 = ("bx", "cx", "dx", "si", "di", "bp")
# arch/x86/include/asm/thread_info.h: TS_COMPAT; include/uapi/asm/unistd.h: __X32_SYSCALL_BIT.
_EXECVE = (59, 322) if _X86_64 else (221, 281)

_NESTED: Final = 4
"""Elements of an array that another array leads to (iovec of sendmmsg(2)) whose memory is read."""

_LOOP: Final = "k"
"""In the names of variables that are used in a loop over elements."""

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


def _pick(index: str) -> str:
    """One of the six arguments by its position."""
    chain = "$a5"
    for n in range(4, -1, -1):
        chain = f"{index} == {n} ? $a{n} : {chain}"
    return f"({chain})"


def _placed(word: str, ret: str, own: str = "") -> list[str]:
    """What a word describes: $address, $how, $count, $each and $size, with ``own`` in front of their names."""
    return [
        f"${own}address = {_pick(f'({word} & 7)')};",
        f"${own}how = ({word} >> 3) & 7;",
        f"${own}counted = ({word} >> {words.COUNT_SHIFT}) & 7;",
        f"${own}count = (uint64)1;",
        f"if (${own}counted != 0) {{",
        f"    ${own}count = ${own}counted == {words.RETURNED} ? {ret} : {_pick(f'(${own}counted - 1)')};",
        f"    if ({word} & {words.COUNT_AT}) {{ ${own}count = (uint64)*(uint32 *)uptr(${own}count); }}",
        f"    $unit = ({word} >> {words.UNIT_SHIFT}) & 3;",
        f"    if ($unit == 1) {{ ${own}count = (${own}count + 63) >> 6; }}",
        f"    if ($unit == 2) {{ ${own}count = (${own}count + 4095) >> 12; }}",
        f"    if (${own}count > 4096) {{ ${own}count = 4096; }}",
        "}",
        f"${own}each = ({word} >> {words.SIZE_SHIFT}) & {words.SIZE_MASK};",
        f"${own}most = {word} & {words.WHOLE} ? (uint64)4096 : (@limit + 2) * ${own}each;",
        f"${own}size = ${own}how == {words.STRING} ? ${own}most : ${own}count * ${own}each;",
        f"if (${own}size > ${own}most) {{ ${own}size = ${own}most; }}",
    ]


def _further(key: str, at_exit: int, ret: str) -> list[str]:
    """Everything but the first word: records of their own, in front of the entry's or exit's."""
    return [
        f"$wide = (($new >> {ABI_SHIFT}) & 3) == 0 ? (uint64)8 : (uint64)4;",
        "$linked = (uint64)0;",
        f"for $i : 0..{words.MOST_WORDS} {{",
        f"    $word = (@more[{key} << 3 | {at_exit << 2} | ($i >> 1)] >> (32 * ($i & 1))) & 0xffffffff;",
        # After the words of the exit comes what the entry could not read.
        *(_late(key) if at_exit else []),
        "    if ($word == 0) { break; }",
        f"    if ((($word >> 3) & 7) == {words.CHOICE}) {{",
        *_indented(_chosen(), 2),
        "    }",
        *_indented(_placed("$word", ret, "m_")),
        f"    if ($m_how == {words.STACK}) {{",
        *_indented(_on_stack(), 2),
        "    } else if ($m_address != 0) {",
        f"        if ($m_how == {words.BYTES}) {{",
        f"            {_memory('$m_address', 'user_bytes', '$m_size')}",
        f"        }} else if ($m_how == {words.STRING}) {{",
        f"            {_memory('$m_address', 'user_string', '$m_size')}",
        f"        }} else if ($m_how <= {words.ADDRESSES}) {{",
        *_indented(_strings(), 3),
        "        } else { $linked = $word; }",
        "    }",
        "}",
        # Of a half there is one at most. Outside of the loop: 512 bytes of stack are all that four nested ones have.
        "if ($linked != 0) {",
        *_indented(_placed("$linked", ret, "m_")),
        *_indented(_shapes()),
        "}",
    ]


def _late(key: str) -> list[str]:
    return [
        f"    if ($i == {words.MOST_WORDS - 1}) {{",
        # After execve() the memory is another program's.
        f"        $word = ($call >> {WORDS}) & {_WORD_MASK};",
        f"        if (($new & {RETRY}) == 0 || ($ret == 0 && $key == {_EXECVE[0]})) {{ $word = (uint64)0; }}",
        f"    }} else if (!$writes || ($call & {WRITES_MORE}) == 0) {{ $word = (uint64)0; }}",
        "    if ($word == 0) { continue; }",
    ]


def _chosen() -> list[str]:
    """The word that a choice means."""
    chooses = f"(($word >> {words.COUNT_SHIFT}) & 7) - 1"
    return [
        f"$choice = ((($word >> {words.SIZE_SHIFT}) << 1 | ($wide == 8 ? (uint64)1 : (uint64)0)) << 33);",
        f"$chosen = @chosen[$choice | ({_pick(f'({chooses})')} & 0xffffffff)];",
        f"$word = $chosen != 0 ? $chosen : @chosen[$choice | {words.OTHERWISE}];",
        # Nothing is there for this value.
        "if ($word == 0) { continue; }",
    ]


def _memory(address: str, data: str, size: str) -> str:
    """Sends a piece: ``data`` is user_bytes or user_string."""
    return f'emit("memory", (call=$new, address={address}, size={size}, data={data}({address}, {size})));'


def _on_stack() -> list[str]:
    lines = ["$place = (uint64)args.regs.sp;"]
    for number, (size, offset) in enumerate(words.on_stack_places()):
        lines += [
            f"if ($m_each == {number}) {{",
            f"    $place = $place + {offset};",
            f"    {_memory('$place', 'user_bytes', f'(uint64){size}')}",
            "}",
        ]
    return lines


def _strings() -> list[str]:
    """A NULL-terminated array of pointers: the strings, then the array in parts."""
    return [
        "$n = (uint64)0;",
        "for $j : 0..8192 {",
        "    $at = $m_address + $j * $wide;",
        "    $string = $wide == 8 ? *(uint64 *)uptr($at) : (uint64)*(uint32 *)uptr($at);",
        "    if ($string == 0) { break; }",
        "    $n = (uint64)$j + 1;",
        f"    if ($m_how == {words.STRINGS} && $j < 64) {{",
        f"        {_memory('$string', 'user_string', '@limit + 2')}",
        "    }",
        "}",
        "$bytes = ($n + 1) * $wide;",
        "for $j : 0..17 {",
        "    $done = (uint64)$j * 4096;",
        "    if ($done >= $bytes) { break; }",
        "    $part = $bytes - $done;",
        "    if ($part > 4096) { $part = 4096; }",
        "    $from = $m_address + $done;",
        f"    {_memory('$from', 'user_bytes', '$part')}",
        "}",
    ]


def _shapes() -> list[str]:
    """Structures with pointers, by the number of their shape."""
    lines: list[str] = []
    for number, shape in enumerate(words.linked_shapes()):
        lines.append(f"{'} else ' if number else ''}if ($m_each == {number}) {{")
        lines += _indented(_linked(shape, "$m_address", "$m_count"))
    return [*lines, "}"]


def _linked(shape: Linked, address: str, count: str, depth: str = "") -> list[str]:
    """The elements at an address, then what each of their pointers leads to."""
    most = min(shape.most, 4096 // shape.size)
    number, at = f"$elements{depth}", f"$element{depth}"
    if most == 1:
        return [_memory(address, "user_bytes", f"(uint64){shape.size}"), *_links(shape, address, f"{depth}n")]
    if _LOOP in depth:
        # A loop in a loop takes more stack than old kernels have.
        lines = [_memory(address, "user_bytes", f"{count} * {shape.size}")]
        for index in range(_NESTED):
            lines.append(f"if ({count} > {index}) {{")
            lines += _indented(_links(shape, f"({address} + {index * shape.size})", f"{depth}_{index}"))
            lines.append("}")
        return lines
    return [
        f"{number} = {count};",
        f"if ({number} > {most}) {{ {number} = {most}; }}",
        _memory(address, "user_bytes", f"{number} * {shape.size}"),
        f"for $k{depth} : 0..{most} {{",
        f"    if ($k{depth} >= {number}) {{ break; }}",
        f"    {at} = {address} + $k{depth} * {shape.size};",
        *_indented(_links(shape, at, depth + _LOOP)),
        "}",
    ]


def _links(shape: Linked, at: str, depth: str) -> list[str]:
    """What the pointers of the element at an address lead to."""
    lines: list[str] = []
    for index, (offset, length_at, length_bytes, there) in enumerate(shape.links):
        pointer, length = f"$to{depth}_{index}", f"$length{depth}_{index}"
        there_at = f"uptr({at} + {offset})"
        lines.append(f"{pointer} = $wide == 8 ? *(uint64 *){there_at} : (uint64)*(uint32 *){there_at};")
        if length_at >= 0:
            lines.append(f"{length} = (uint64)*(uint{8 * length_bytes} *)uptr({at} + {length_at});")
            lines.append(f"if ({length} > 4096) {{ {length} = 4096; }}")
        else:
            lines.append(f"{length} = (uint64)1;")
        lines.append(f"if ({pointer} != 0) {{")
        lines += _indented(_reached(there, pointer, length, depth))
        lines.append("}")
    return lines


def _reached(there: Capture, pointer: str, length: str, depth: str) -> list[str]:
    if isinstance(there, Linked):
        return _linked(there, pointer, length, depth)
    if isinstance(there, String | Array):
        most = "4096" if isinstance(there, String) and there.path else "@limit + 2"
        return [_memory(pointer, "user_string", most)]
    assert isinstance(there, Bytes)
    most = "4096" if there.whole else f"(@limit + 1) * {there.size}"
    size = f"$m_size{depth}"
    return [
        f"{size} = {length} * {there.size};",
        f"if ({size} > {most}) {{ {size} = {most}; }}",
        _memory(pointer, "user_bytes", size),
    ]


def _indented(lines: Iterable[str], levels: int = 1) -> Iterator[str]:
    return ("    " * levels + line for line in lines)


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
        *_identified(),
        "$call = @call[$key];",
        f"if ($call == 0 || ($state & {HELD} && $key != {_EXECVE[0]} && $key != {_EXECVE[1]})) {{",
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
        f"$first = ($call >> {WORDS}) & {_WORD_MASK};",
        "$address = (uint64)0;",
        "$size = (uint64)0;",
        "$how = (uint64)0;",
        "if ($first != 0) {",
        *_indented(_placed("$first", "(uint64)0")),
        f"    if ($address != 0 && !user_readable($address)) {{ $new = $new | {RETRY}; }}",
        "}",
        *([then] if then else []),
        f"if ($call & {READS_MORE}) {{",
        *_indented(_further("$key", 0, "(uint64)0")),
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
        *_identified(_NUMBER),
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
        *_indented(_further("$key", 1, "(uint64)$ret")),
        "}",
        f"$first = $call >> {WORDS + words.WORD_BITS};",
        "if ($writes && $first != 0) {",
        *_indented(_placed("$first", "(uint64)$ret")),
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
        *_identified(_NUMBER),
        "$call = @opens[$key];",
        "if ($call == 0) { return; }",
        "$fd = (uint64)args.ret;",
        "$other = (uint64)0xffffffff;",
        f"if ($call & {OPENS_PAIR}) {{",
        *_indented(_arguments("$compat")),
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


def _identified(number: str = "args.id") -> list[str]:
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
        *_indented(_enter(stacks=stacks, slower=slower)),
        "}",
        *(["rawtracepoint:sys_exit {", *_indented(_described()), "}"] if describes else []),
        *([] if slower else ["rawtracepoint:sys_exit {", *_indented(_refused()), "}"]),
        "rawtracepoint:sys_exit {",
        *_indented(_exit(stacks=stacks, slower=slower)),
        "}",
        _OTHERS % {"first": FIRST, "pending": pending, "executable": executable},
        # What is written from outside only, so that the script has its types.
        "BEGIN {",
        *_indented(
            f"@{name}[(uint64)0] = (uint64)0;" if name != "task" else "@task[(uint32)0] = (uint64)0;"
            for name in ("call", "more", "chosen", "opens", "task")
        ),
        *_indented(f"@{name} = (uint64)0;" for name in ("limit", "whole", "self", "slower")),
        "}",
    ]
    return "\n".join(parts)


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
    identified = "\n".join(_indented(_identified()))
    return _SUMMARY % {"identified": identified, "execve": _EXECVE[0], "execveat": _EXECVE[1]}
