"""Calls, constants, requests, structures: against Python's own modules, the compiler, the kernel, strace."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.syscalls.facts import facts_of
from insitu.syscalls.facts.structs import structure

ABIS = ("x86_64", "i386", "x32", "aarch64")
TOOL = Path(__file__).parent.parent.parent / "tools/syscall_facts.py"


def test_calls_have_the_numbers_that_the_kernel_gives_them() -> None:
    numbers = facts_of("x86_64").numbers
    words = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "asm/unistd_64.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    in_headers = re.findall(r"#define __NR_(\w+) (\d+)", words)
    assert len(in_headers) > 350
    for name, nr in in_headers:
        assert numbers[name] == int(nr)
    # What headers of 6.1 do not have; the numbers of include/uapi/asm-generic/unistd.h
    newer = {
        "cachestat": 451,
        "fchmodat2": 452,
        "futex_wake": 454,
        "statmount": 457,
        "mseal": 462,
        "file_setattr": 469,
    }
    assert newer.items() <= numbers.items()
    assert {abi: facts_of(abi).numbers["openat"] for abi in ABIS} == {
        "x86_64": 257,
        "i386": 295,
        "x32": 0x40000000 + 257,
        "aarch64": 56,
    }


@pytest.mark.parametrize("abi", ABIS)
def test_every_call_has_parameters_with_types_and_names_but_those_without_any(abi: str) -> None:
    without = {call.name for call in facts_of(abi).calls.values() if not call.parameters}
    assert {"sched_yield", "getpid", "getuid"} & without or abi == "aarch64"
    assert not without & {"read", "stat", "uname", "umount2", "finit_module", "kexec_load", "map_shadow_stack", "ipc"}
    for call in facts_of(abi).calls.values():
        assert len(call.parameters) <= 6
        assert all(type_ and name.isidentifier() for type_, name in call.parameters), call


def test_i386_takes_64_bit_offsets_in_two_registers_and_short_times() -> None:
    calls = facts_of("i386")
    assert [name for _, name in calls.calls[calls.numbers["pread64"]].parameters][-2:] == ["poslo", "poshi"]
    assert "old_timespec32" in calls.calls[calls.numbers["nanosleep"]].parameters[0][0]
    assert "__kernel_timespec" in calls.calls[calls.numbers["clock_gettime64"]].parameters[1][0]


# The C library's own values: 64-bit programs need none of the calls for large files.
LIBC = {"O_LARGEFILE", "F_GETLK64", "F_SETLK64", "F_SETLKW64"}


@pytest.mark.parametrize(
    ("name", "module", "least"),
    [
        ("open", "os", 15), ("access", "os", 4), ("seek", "os", 3), ("prot", "mmap", 3), ("map", "mmap", 6),
        ("madvise", "mmap", 15), ("signal", "signal", 30), ("sigprocmask", "signal", 3), ("itimer", "signal", 3),
        ("fcntl", "fcntl", 15), ("fcntl_lock", "fcntl", 3), ("flock", "fcntl", 4), ("notify", "fcntl", 7),
        ("fcntl_seal", "fcntl", 4), ("epoll", "select", 12), ("epoll_create", "select", 1), ("poll", "select", 10),
        ("rlimit", "resource", 14), ("rusage", "resource", 3), ("clock", "time", 6), ("priority", "os", 3),
        ("sched_policy", "os", 5), ("waitid_type", "os", 3), ("wait", "os", 5), ("splice", "os", 0),
        ("socket_family", "socket", 25), ("socket_type", "socket", 6), ("msg", "socket", 12),
        ("shutdown", "socket", 3),
        ("ipproto", "socket", 20), ("sockopt_socket", "socket", 15), ("sockopt_tcp", "socket", 12),
        ("sockopt_ip", "socket", 8), ("sockopt_ipv6", "socket", 15), ("memfd", "os", 2), ("eventfd", "os", 2),
        ("termios_input", "termios", 10), ("termios_local", "termios", 10), ("termios_speed", "termios", 15),
        ("statfs_flags", "os", 4), ("getrandom", "os", 2), ("fadvise", "os", 6), ("rwf", "os", 4),
        ("syslog", "os", 0), ("si_code_cld", "os", 4), ("xattr", "os", 2), ("personality", "os", 0),
    ],
)  # fmt: skip
def test_constants_equal_those_of_pythons_modules(name: str, module: str, least: int) -> None:
    python = importlib.import_module(module)
    shared = 0
    for constant in facts_of("x86_64").constants(name):
        value = getattr(python, constant.name, None)
        if value is not None and constant.name not in LIBC:
            assert constant.value == int(value) & 0xFFFFFFFF, constant.name
            shared += 1
    assert shared >= least


def test_requests_equal_those_of_pythons_modules() -> None:
    termios, fcntl = importlib.import_module("termios"), importlib.import_module("fcntl")
    facts = facts_of("x86_64")
    for name in ("TCGETS", "TIOCGWINSZ", "FIONREAD", "TIOCSCTTY", "FIONBIO", "TCSETS"):
        assert name in (facts.request(getattr(termios, name)) or "").split(" or ")
    assert facts.request(getattr(fcntl, "FICLONE", 0x40049409)) == "BTRFS_IOC_CLONE or FICLONE"
    assert facts.request(0x5402) == "SNDCTL_TMR_START or TCSETS"  # strace's words
    assert facts.request(0x80081272) == "BLKGETSIZE64"  # _IOR(0x12, 114, size_t)
    assert facts_of("i386").request(0x80041272) == "BLKGETSIZE64"
    assert facts.request(0xDEADBEEF) is None


def test_real_time_signals_are_named_as_strace_does() -> None:
    facts = facts_of("x86_64")
    assert [facts.signal_name(number) for number in (17, 32, 33, 34, 64, 65)] == [
        "SIGCHLD", "SIGRTMIN", "SIGRT_1", "SIGRT_2", "SIGRT_32", "65",
    ]  # fmt: skip


def test_errors_have_straces_names_and_texts() -> None:
    facts = facts_of("x86_64")
    assert facts.error_text(2) == "-1 ENOENT (No such file or directory)"
    assert facts.error_text(95) == "-1 EOPNOTSUPP (Operation not supported)"
    assert facts.error_text(35) == "-1 EDEADLK (Resource deadlock avoided)"
    assert facts.error_text(11) == "-1 EAGAIN (Resource temporarily unavailable)"
    assert facts.error_text(524) == "-1 ENOTSUPP (Unknown error 524)"
    assert facts.error_text(999) == "-1 (errno 999)"
    assert facts.error_text(512) == "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
    assert facts.error_text(516) == "? ERESTART_RESTARTBLOCK (Interrupted by signal)"


def test_a_stat_that_the_kernel_writes_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    layout = structure("stat")
    buffer = ctypes.create_string_buffer(layout.size)
    if os.uname().machine != "x86_64":
        pytest.skip("the call's number is x86-64's")
    assert ctypes.CDLL(None).syscall(4, os.fsencode(file), buffer) == 0
    values, real = layout.unpack(buffer.raw), file.stat()
    assert (values["st_size"], values["st_mode"], values["st_ino"]) == (5, real.st_mode, real.st_ino)
    assert values["st_mtime"] * 10**9 + values["st_mtime_nsec"] == real.st_mtime_ns
    assert "st_size" not in layout.unpack(buffer.raw[:50])


def test_bit_fields_arrays_and_structures_within_are_unpacked() -> None:
    attr = bytearray(structure("perf_event_attr").size)
    attr[0:4], attr[40:42] = (1).to_bytes(4, "little"), (0b10_0000_0010_0001).to_bytes(2, "little")
    values = structure("perf_event_attr").unpack(bytes(attr))
    # disabled, exclude_kernel and enable_on_exec are bits 0, 5 and 12; freq is bit 10, mmap bit 8
    assert (values["type"], values["disabled"], values["exclude_kernel"], values["exclude_hv"]) == (1, 1, 1, 0)
    timer = structure("__kernel_itimerspec").unpack(b"".join(n.to_bytes(8, "little") for n in (1, 2, 3, 4)))
    assert timer == {"it_interval": {"tv_sec": 1, "tv_nsec": 2}, "it_value": {"tv_sec": 3, "tv_nsec": 4}}
    name = structure("sockaddr_un").unpack(b"\1\0/run/x".ljust(110, b"\0"))
    assert name == {"sun_family": 1, "sun_path": b"/run/x".ljust(108, b"\0")}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to ask")
@pytest.mark.parametrize(("abi", "option"), [("x86_64", "-m64"), ("i386", "-m32")])
def test_layouts_equal_those_of_the_compiler(abi: str, option: str, tmp_path: Path) -> None:
    asked = [
        ("sys/socket.h", "msghdr", "msg_control"), ("sys/uio.h", "iovec", "iov_len"), ("poll.h", "pollfd", "revents"),
        ("netinet/in.h", "sockaddr_in6", "sin6_scope_id"), ("sys/epoll.h", "epoll_event", "data"),
        ("linux/types.h,asm/stat.h", "stat", "st_size"), ("linux/filter.h", "sock_fprog", "filter"),
    ]  # fmt: skip
    checks = [
        f"_Static_assert(sizeof(struct {name}) == {structure(name, abi).size}"
        f" && __builtin_offsetof(struct {name}, {member}) == {structure(name, abi).member(member).offset}, {name!r});"
        for _, name, member in asked
    ]
    for (headers, _, _), check in zip(asked, checks, strict=True):
        source = "".join(f"#include <{each}>\n" for each in headers.split(",")) + check.replace("'", '"')
        done = subprocess.run(
            ["gcc", option, "-fsyntax-only", "-D_GNU_SOURCE", "-xc", "-"],
            input=source,
            capture_output=True,
            text=True,
        )
        if "No such file" in done.stderr:
            pytest.skip(f"no headers for {abi} programs")
        assert done.returncode == 0, done.stderr


def test_the_kernels_limits_are_read_from_its_structure() -> None:
    buffer = ctypes.create_string_buffer(structure("rlimit").size)
    if os.uname().machine != "x86_64":
        pytest.skip("the call's number is x86-64's")
    assert ctypes.CDLL(None).syscall(97, resource.RLIMIT_NOFILE, buffer) == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert structure("rlimit").unpack(buffer.raw) == {
        "rlim_cur": soft & (1 << 64) - 1,
        "rlim_max": hard & (1 << 64) - 1,
    }


@pytest.mark.parametrize("name", ["calls.x86_64", "structs", "constants"])
def test_what_is_committed_is_what_the_generator_makes(name: str) -> None:
    for program in ("gcc", "objcopy"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} for the generator")
    same = subprocess.run([sys.executable, TOOL, "--check", "inputs"], capture_output=True, text=True)
    if same.returncode:
        pytest.skip(f"the generator's inputs are others here: {same.stdout}{same.stderr}")
    done = subprocess.run([sys.executable, TOOL, "--check", name], capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip(f"the generator's inputs cannot be read here: {done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
