"""Numbers, flags and enumerations as text: beside strace, argument by argument."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from insitu.syscalls.argument import Argument, TextOptions
from insitu.syscalls.call import Call, Enter, Pieces
from insitu.syscalls.facts import facts_of
from insitu.syscalls.kinds.numbers import KINDS

ALL = 0xFFFFFFFF

# Each: kind and its parameters, call, its arguments ("P": a path that does not exist), which one is looked at.
# No call has an effect: descriptors are -1, addresses NULL.
OPEN = (0, 1, 3, 0x80003, 0x410002, 0x400000, 0x3F0000, ALL)
MAP = (0, 1, 2, 0x22, 0x62, 0xF, 0x80000000, 0x0C040022, ALL)
CASES = [
    *(("flags(open)", "openat", (-100, "P", flags, 0o600), 2) for flags in OPEN),
    *(("mode", "openat", (-100, "P", 0x400000, mode), 3) for mode in (0, 7, 0o644, 0o12644, ALL)),
    *(("dirfd", "openat", (fd, "P", 0), 0) for fd in (-100, -1)),
    *(("flags(open_flags)", "dup3", (-1, -1, flags), 2) for flags in (0, 1, 0x40, 0x80000, ALL)),
    *(("enum(seek)", "lseek", (-1, 0, whence), 2) for whence in (0, 2, 4, 9, ALL)),
    *(("flags(access)", "access", ("P", mode), 1) for mode in (0, 1, 4, 7, 0xFF, 0x100)),
    *(("flags(prot)", "mprotect", (0, 0, prot), 2) for prot in (0, 1, 7, 0x80, 0x1000001, ALL)),
    *(("flags(map)", "mmap", (0, 1, 0, flags, -1, 1), 3) for flags in MAP),
    *(("enum(madvise)", "madvise", (1, 0, advice), 2) for advice in (0, 4, 100, 77)),
    *(("enum(clock)", "clock_gettime", (clock, 0), 0) for clock in (0, 1, 7, 99)),
    *(("flags(at)", "newfstatat", (-1, "P", 0, flags), 3) for flags in (0, 0x100, 0x1000, 8, ALL)),
    *(("flags(at_statx)", "statx", (-1, "P", flags, 0, 0), 2) for flags in (0, 0x2000, 0x4000, 0x6000, 0x900, ALL)),
    *(("flags(statx_mask)", "statx", (-1, "P", 0, mask, 0), 3) for mask in (0, 0x7FF, 0xFFF, 0x7FE, 0x4, 0x2000)),
    *(("flags(wait)", "wait4", (-1, 0, options | 1, 0), 2) for options in (0, 2, 8, 0x40000000)),
    *(("flags(memfd)", "memfd_create", (0, flags), 1) for flags in (0, 3, 4, 0x54000004, 0x03FFFFE0)),
    *(("flags(msg)", "sendto", (-1, 0, 0, flags, 0, 0), 3) for flags in (0, 0x4000, 0x4040, 0x1BF00000, ALL)),
    *(("enum(shutdown)", "shutdown", (-1, how), 1) for how in (0, 2, 7)),
    *(("flags(splice)", "splice", (-1, 0, -1, 0, 5, flags), 5) for flags in (0, 3, ALL)),
    *(("flags(inotify)", "inotify_add_watch", (-1, "P", mask), 2) for mask in (0, 2, 0xFFF, ALL)),
    *(("flags(eventfd)", "eventfd2", (1, flags), 1) for flags in (4, ALL)),
    *(("flags(unshare)", "unshare", (0xF80000 | flags,), 0) for flags in (0x7F,)),
    *(("flags(mlockall)", "mlockall", (flags,), 0) for flags in (0, 0xF8, 0xFF)),
    *(("flags(fallocate)", "fallocate", (-1, mode, 0, 0), 1) for mode in (0, 3, 0x80, ALL)),
    *(("flags(flock)", "flock", (-1, operation), 1) for operation in (1, 6, 0x40, 0xFF)),
    *(("flags(close_range)", "close_range", (5, 4, flags), 2) for flags in (0, 4, 9)),
    *(("flags(mremap)", "mremap", (1, 0, 0, flags, 5), 3) for flags in (1, 3, 0xF)),
    *(("flags(rename)", "renameat2", (-1, "P", -1, "P", flags), 4) for flags in (0, 2, 0x80, 0xFF)),
    *(("flags(sync_file_range)", "sync_file_range", (-1, 0, 0, flags), 3) for flags in (0, 7, 0xF8)),
    *(("flags(umount)", "umount2", ("P", flags), 1) for flags in (0, 2, 0xF0, 0xFF)),
    *(("flags_long(mount)", "mount", ("P", "P", "P", flags, 0), 3) for flags in (0, 0xC0ED1001, 0x5000, ALL)),
    *(("enum(priority)", "getpriority", (which, 0), 0) for which in (7,)),
    *(("enum(rlimit)", "getrlimit", (what, 0), 0) for what in (0, 7, 15, 99)),
    *(("enum(fcntl)", "fcntl", (-1, command, 0), 1) for command in (1, 3, 13, 1033, 99)),
    *(("enum(futex)", "futex", (0, op, 0, 0, 0, 0), 1) for op in (1, 0x81, 0xFF)),
    *(("enum(sigprocmask)", "rt_sigprocmask", (how, 0, 0, 0), 0) for how in (9,)),
    *(("enum(socket_family)", "socket", (family, 0x10, 0), 0) for family in (1, 2, 10, 16, 99)),
    *(("enum(socket_level)", "setsockopt", (-1, level, 999, 0, 0), 1) for level in (0, 1, 6, 41, 270, 99)),
    *(("enum(sockopt_socket)", "setsockopt", (-1, 1, name, 0, 0), 2) for name in (2, 20, 63, 999)),
    *(("enum(sockopt_tcp)", "getsockopt", (-1, 6, name, 0, 0), 2) for name in (1, 13, 999)),
    *(("enum(sockopt_ip)", "setsockopt", (-1, 0, name, 0, 0), 2) for name in (1, 35, 999)),
    *(("flags(setns)", "setns", (-1, flags), 1) for flags in (0, 1, 0x40000000)),
    *(("flags(pkey)", "pkey_alloc", (1, rights), 1) for rights in (0, 3, 8)),
    *(("enum(prctl)", "prctl", (option, 0, 0, 0, 0), 0) for option in (9999,)),
    *(("enum(bpf)", "bpf", (command, 0, 0), 0) for command in (999,)),
    *(("enum(kcmp)", "kcmp", (-1, -1, type_, 0, 0), 2) for type_ in (0, 4, 99)),
    *(("flags(fanotify_mark)", "fanotify_mark", (-1, flags, 0, -1, 0), 1) for flags in (1, 0x8000, 0x105)),
    *(("flags(shmat)", "shmat", (-1, 0, flags), 2) for flags in (0, 0x1000, 0x80)),
    *(("enum(shmctl)", "shmctl", (-1, command, 0), 1) for command in (0, 99)),
    *(("enum(io_uring_register)", "io_uring_register", (-1, operation, 0, 0), 1) for operation in (0, 3, 999)),
    *(("enum(ioprio_who)", "ioprio_get", (which, 0), 0) for which in (9,)),
    *(("uid", "setpgid", (pid, 0), 0) for pid in (-1,)),
    *(("size", "read", (-1, 0, size), 2) for size in (0, 5, -1)),
    *(("fd", "read", (fd, 0, 0), 0) for fd in (-1, 1000)),
]  # fmt: skip

# strace shows these as two numbers where it shows numbers.
IN_PARTS = {"flags(at_statx)", "flags_long(mount)", "flags(memfd)"}

PROGRAM = """
import ctypes, sys
call = ctypes.CDLL(None).syscall
call(NUMBER_ACCESS, b"/cases follow", 0)
for nr, values in CASES:
    call(*(ctypes.c_long(nr), *(v if isinstance(v, bytes) else ctypes.c_long(v) for v in values)))
"""


@pytest.mark.parametrize("constants", ["abbrev", "raw", "verbose"])
def test_values_are_shown_as_strace_shows_them(constants: str) -> None:
    strace = shutil.which("strace")
    if strace is None or os.uname().machine != "x86_64":
        pytest.skip("there is no strace of x86-64 beside which to run")
    numbers = facts_of("x86_64").numbers
    made = [
        (numbers[name], tuple(b"/nonexistent/path" if value == "P" else value for value in values))
        for _, name, values, _ in CASES
    ]
    program = PROGRAM.replace("NUMBER_ACCESS", str(numbers["access"])).replace("CASES", repr(made))
    names = ",".join(sorted({name for _, name, _, _ in CASES} | {"access"}))
    done = subprocess.run(
        [strace, "-X", constants, "-e", f"trace={names}", "-e", "signal=none", sys.executable, "-c", program],
        capture_output=True,
        text=True,
    )
    if "PTRACE_TRACEME" in done.stderr:
        pytest.skip("strace may not trace here")
    lines = done.stderr.partition("/cases follow")[2].splitlines()[1:]
    wrong = []
    for (kind, name, values, position), line in zip(CASES, lines, strict=False):
        assert line.startswith(f"{name}("), (name, line)
        shown = line[line.index("(") + 1 : line.rindex(")", 0, line.rindex(" = "))].split(", ")
        ours = text(kind, name, [0 if isinstance(value, str) else value for value in values], position, constants)
        if constants != "abbrev" and kind in IN_PARTS:
            continue
        if ours != shown[position]:
            wrong.append((name, kind, hex(values[position] & ALL), ours, shown[position]))
    assert not wrong, "\n".join(map(str, wrong))
    assert len(lines) >= len(CASES)


def text(kind: str, name: str, values: list[int], position: int, constants: str) -> str | None:
    facts = facts_of("x86_64")
    found = re.fullmatch(r"(\w+)(?:\((\w+)\))?", kind)
    assert found is not None
    args = tuple(value & (1 << 64) - 1 for value in [*values, 0, 0, 0, 0, 0, 0][:6])
    call = Call(Enter(0, 1, 1, "x86_64", facts.numbers[name], args))
    given = (found[2],) if found[2] else ()
    return KINDS[found[1]].text(
        Argument(args[position], given, None, Pieces(()), call, TextOptions(constants=constants), facts)
    )
