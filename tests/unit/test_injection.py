"""What -e inject= and -e fault= mean, as strace(1) documents it."""

import pytest

from insitu.errors import InsituError
from insitu.syscalls.injection import Injection, parse_fault, parse_injection

_NUMBERS = {"openat": ("x86_64", 257), "read": ("x86_64", 0)}


def resolve(text):
    return frozenset(_NUMBERS[each] for each in text.split(","))


def invocations(text: str) -> list[int]:
    injection = parse_injection(f"read:error=EIO:when={text}", resolve)
    return [each for each in range(1, 13) if injection.applies(each)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]),
        ("3+", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("3..5", [3, 4, 5]),
        ("3..5+", [3, 4, 5]),
        ("3+2", [3, 5, 7, 9, 11]),
        ("2..9+3", [2, 5, 8]),
    ],
)
def test_when_chooses_invocations(text, expected):
    assert invocations(text) == expected


def test_what_happens_is_said_in_parts():
    found = parse_injection("openat,read:error=ENOENT:signal=SIGUSR1:delay_enter=5ms:delay_exit=7", resolve)
    assert found == Injection(frozenset(_NUMBERS.values()), -2, 10, 5000, 7)
    assert parse_injection("read:error=5", resolve).result == -5
    assert parse_injection("read:retval=0x10", resolve).result == 16
    assert parse_injection("read:signal=winch", resolve).signal == 28
    assert parse_injection("read:delay_exit=2s", resolve).delay_exit_us == 2_000_000


def test_a_fault_is_enosys_unless_it_is_named():
    assert parse_fault("read", resolve).result == -38
    assert parse_fault("read:error=EPERM:when=2", resolve)[1:] == (-1, 0, 0, 0, (2, 2, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("read", "give an error"),
        ("read:when=2", "give an error"),
        ("read:error=ENOEN", "did you mean 'ENOENT'"),
        ("read:error=0", "unknown error"),
        ("read:error=4096", "unknown error"),
        ("read:retval=-1", "a number from 0"),
        ("read:error=EIO:retval=1", "either an error or a value"),
        ("read:signal=SIGFOO", "unknown signal"),
        ("read:signal=65", "unknown signal"),
        ("read:delay_enter=soon", "a time such as"),
        ("read:error=EIO:when=0", "from 1 to 65535"),
        ("read:error=EIO:when=5..3", "from 1 to 65535"),
        ("read:error=EIO:when=1+0", "from 1 to 65535"),
        ("read:error=EIO:when=", "FIRST"),
        ("read:colour=red", "error, retval, signal"),
        ("read:error", "either|unknown error"),
    ],
)
def test_invalid_injections_are_one_line(text, message):
    with pytest.raises(InsituError, match=message) as refused:
        parse_injection(text, resolve)
    assert refused.value.status == 2
    assert "\n" not in str(refused.value)
