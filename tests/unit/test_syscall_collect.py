"""Memory of calls, as the kinds of arguments declare it, from a process whose memory is made up here."""

import errno
import os
import re

import pytest

from insitu.kernel import procfs
from insitu.kernel.ptrace_refusal import refusal
from insitu.record.ptrace_signal import signal_event
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Exit
from insitu.syscalls.collect import Collector
from insitu.syscalls.decode import Decoder
from insitu.syscalls.facts import facts_of


class Process:
    """Pages of memory; counts what is read of them."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = {int(at.removeprefix("at_"), 16): data for at, data in pages.items()}
        self.bytes_read = 0

    def read(self, tid: int, address: int, size: int) -> bytes:
        for start, data in self.pages.items():
            if start <= address < start + len(data):
                found = data[address - start : address - start + size]
                self.bytes_read += len(found)
                return found
        return b""


def enter(name: str, *arguments: int) -> Enter:
    return Enter(0, 1, 1, "x86_64", facts_of("x86_64").numbers[name], (*arguments, *[0] * (6 - len(arguments))))


def text(process: Process, name: str, *arguments: int, ret: int = 0, **options) -> str:
    collector = Collector(process.read, **options)
    entered = enter(name, *arguments)
    entered = entered._replace(memory=collector.at_enter(entered))
    left = Exit(0, 1, 1, ret, collector.at_exit(entered, ret))
    return ", ".join(each.text for each in Decoder().arguments(Call(entered, left)))


def test_what_the_kernel_writes_is_read_at_exit_and_as_much_as_it_wrote():
    process = Process(at_1000=b"hello, world")
    assert text(process, "read", 3, 0x1000, 4096, ret=5) == '3, "hello", 4096'
    assert text(process, "read", 3, 0x1000, 4096, ret=-9) == "3, 0x1000, 4096"


def test_a_string_without_an_end_is_an_address():
    process = Process(at_1000=b"x" * 100)
    assert text(process, "access", 0x1000) == "0x1000, F_OK"
    assert text(process, "access", 0x5000) == "0x5000, F_OK"


@pytest.mark.parametrize("name", ["write", "writev", "sendmsg", "sendmmsg", "execve", "poll", "readv", "recvmmsg"])
def test_counts_and_lengths_of_the_program_do_not_decide_how_much_is_read(name):
    pointers = b"".join(value.to_bytes(8, "little") for value in (0x1000, (1 << 63) - 1)) * (1 << 17)
    process = Process(at_1000=pointers)
    collector = Collector(process.read)
    entered = enter(name, 0x1000, 0x1000, (1 << 64) - 1, 0x1000, 0x1000, 0x1000)
    entered = entered._replace(memory=collector.at_enter(entered))
    collector.at_exit(entered, (1 << 63) - 1)
    assert process.bytes_read <= 2 << 18


def test_descriptors_are_looked_up_at_the_moment_of_the_call():
    opened = {3: "/first"}
    process = Process()
    collector = Collector(process.read, describe=lambda tid, number: opened.get(number, ""))
    entered = enter("dup2", 3, 4)
    entered = entered._replace(memory=collector.at_enter(entered))
    opened[3], opened[4] = "/other", "/first"
    left = Exit(0, 1, 1, 4, collector.at_exit(entered, 4))
    decoder = Decoder(TextOptions(descriptors=1))
    call = Call(entered, left)
    assert [each.text for each in decoder.arguments(call)] == ["3</first>", "4"]
    assert decoder.result(call) == "4</first>"


def test_of_a_signal_what_its_kind_has_is_read():
    def info(number: int, code: int, *words: bytes) -> bytes:
        head = b"".join(each.to_bytes(4, "little", signed=True) for each in (number, 0, code, 0))
        return (head + b"".join(words)).ljust(128, b"\0")

    child = info(17, 1, (99).to_bytes(4, "little"), (1000).to_bytes(4, "little"), (3).to_bytes(8, "little"),
                 (7).to_bytes(8, "little"), (8).to_bytes(8, "little"))  # fmt: skip
    found = signal_event(5, 1, 2, child)
    assert (found.sender_pid, found.sender_uid, found.status, found.utime, found.stime) == (99, 1000, 3, 7, 8)
    fault = signal_event(5, 1, 2, info(11, 1, (0xFFFF_8000_0000_1234).to_bytes(8, "little")))
    assert (fault.address, fault.sender_pid) == (0xFFFF_8000_0000_1234, 0)
    queued = signal_event(5, 1, 2, info(10, -1, (99).to_bytes(4, "little"), (0).to_bytes(4, "little"),
                                        (-7).to_bytes(8, "little", signed=True)))  # fmt: skip
    assert (queued.sender_pid, queued.value) == (99, -7)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("1", r"only descendants may be traced \(kernel.yama.ptrace_scope=1\); start the program under insitu"),
        ("2", r"only administrators may trace \(kernel.yama.ptrace_scope=2\); sudo insitu"),
        ("3", r"until the next boot \(kernel.yama.ptrace_scope=3\)"),
    ],
)
def test_yama_is_named_with_its_value_and_the_remedy(monkeypatch, scope, message):

    monkeypatch.setattr(procfs, "sysctl", lambda name: scope if name == "kernel.yama.ptrace_scope" else None)
    error = refusal(os.getpid(), os.getpid(), PermissionError(errno.EPERM, ""))
    assert re.search(message, str(error))
