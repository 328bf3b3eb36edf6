"""The filter that stops a program at some calls, run by an interpreter of classic BPF (linux/filter.h)."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from insitu.kernel.seccomp import ARCHITECTURES, stop_at

_TRACE, _ALLOW = 0x7FF00000, 0x7FFF0000


def outcome(program: bytes, arch: int, nr: int) -> int:
    data = struct.pack("=II", nr, arch)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x05:  # BPF_JMP | BPF_JA
            at += value
        elif operation == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            at += if_true if accumulator == value else if_false
        elif operation == 0x35:  # BPF_JMP | BPF_JGE | BPF_K
            at += if_true if accumulator >= value else if_false
        else:
            assert operation == 0x06  # BPF_RET | BPF_K
            return value


_CALLS = st.sets(st.integers(0, 600), max_size=300)


@given(_CALLS, _CALLS, st.integers(0, 600))
def test_calls_asked_for_stop_the_program_and_no_others(native, narrow, nr):
    program = stop_at({"x86_64": native, "x32": [number | 1 << 30 for number in native], "i386": narrow})
    assert program is not None
    x86_64, i386 = ARCHITECTURES["x86_64"], ARCHITECTURES["i386"]
    assert outcome(program, x86_64, nr) == (_TRACE if nr in native else _ALLOW)
    assert outcome(program, x86_64, nr | 1 << 30) == (_TRACE if nr in native else _ALLOW)
    assert outcome(program, i386, nr) == (_TRACE if nr in narrow else _ALLOW)
    assert outcome(program, ARCHITECTURES["aarch64"], nr) == _ALLOW


def test_a_filter_that_is_too_long_is_none():
    assert stop_at({"x86_64": range(0, 4000, 2)}) is None
