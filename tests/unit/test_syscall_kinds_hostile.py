"""Whatever a traced program's memory and arguments hold, every kind of argument has a text, and not a long one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Exit
from insitu.syscalls.decode import Decoder
from insitu.syscalls.facts import facts_of
from insitu.syscalls.signature import signatures

CALLS = (
    "socket", "connect", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "setsockopt",
    "getsockopt", "ioctl", "fcntl", "prctl", "futex", "futex_waitv", "clone", "clone3", "seccomp", "bpf",
    "perf_event_open", "io_uring_setup", "io_uring_register", "keyctl", "add_key", "ptrace", "shmctl", "msgctl",
    "msgsnd", "semop", "mq_open", "io_submit", "io_getevents", "landlock_create_ruleset", "landlock_add_rule",
    "syslog",
)  # fmt: skip
LONGEST = 2_000_000


class Everywhere:
    """Memory that holds the same bytes again and again, at every address."""

    def __init__(self, data: bytes, netlink: str) -> None:
        self.data = data
        self.netlink = netlink

    def read(self, address: int, size: int) -> bytes | None:
        if not self.data:
            return None
        size = min(size, 1 << 17)
        return (self.data * (size // len(self.data) + 1))[:size]


ARGUMENTS = st.one_of(
    st.integers(0, 64),
    st.sampled_from([0x1000, 0x5401, 0x8912, 0x8913, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=40, deadline=None)
@given(
    args=st.lists(ARGUMENTS, min_size=6, max_size=6),
    data=st.binary(max_size=200),
    ret=st.sampled_from([0, 1, 70, 1 << 31, -1, -7, -22]),
    netlink=st.sampled_from(["", "ROUTE", "SOCK_DIAG", "GENERIC", "unknown"]),
    verbose=st.booleans(),
    abi=st.sampled_from(["x86_64", "i386"]),
)
def test_random_memory_has_a_text(
    name: str, args: list[int], data: bytes, ret: int, netlink: str, verbose: bool, abi: str
) -> None:
    nr = facts_of(abi).numbers.get(name)
    if nr is None:
        nr, abi = facts_of("x86_64").numbers[name], "x86_64"
    assert name in signatures()
    memory = Everywhere(data, netlink)
    decoder = Decoder(TextOptions(verbose=verbose))
    for end in (None, Exit(1, 1, 1, ret, memory)):
        call = Call(Enter(0, 1, 1, abi, nr, tuple(args), memory), end)
        text = ", ".join(piece.text for piece in decoder.arguments(call)) + decoder.result(call)
        assert len(text) < LONGEST
