"""Arguments come from the traced program: whatever they are, decoding ends, raises nothing, and reads little."""

import random
import time

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Exit, Pieces
from insitu.syscalls.decode import Decoder, element_count, signature_of
from insitu.syscalls.facts import facts_of

MOST_READ = 1 << 18
MOST_TEXT = 1 << 21
ABIS = ("x86_64", "x32", "i386")
CALLS = [(abi, nr) for abi in ABIS for nr in facts_of(abi).calls]
VALUES = (
    0, 1, 2, 3, 7, 8, 16, 24, 64, 128, 1024, 4096, 0x1000, 0x7FFE00000000, 0x7FFE00000FFD,
    1 << 20, 1 << 31, (1 << 32) - 1, (1 << 32) - 100, 1 << 60, 1 << 63, (1 << 63) - 1,
    (1 << 64) - 1, (1 << 64) - 4095,
)  # fmt: skip
# An example is a call of every kind: to shrink one takes minutes.
QUICK = settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
RESULTS = (
    0, 1, 3, 8, 32, 4096, 1 << 31, (1 << 63) - 1, -1 << 63, -1, -4, -7, -14, -22, -75, -512, -516, -4095, -4096,
)  # fmt: skip
OPTIONS = (
    TextOptions(),
    TextOptions(verbose=True, string_limit=1000),
    TextOptions(constants="raw", strings_in_hex="all"),
    TextOptions(constants="verbose", strings_in_hex="non-ascii", string_limit=0),
)


class Anything:
    """Memory that holds some bytes at every address, the same at each reading, but for addresses that it lacks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def read(self, address: int, size: int) -> bytes | None:
        assert 0 <= size <= MOST_READ, f"{size} bytes are read"
        chance = random.Random(self.seed ^ address)
        kind = chance.randrange(8)
        if kind == 0:
            return None
        if kind == 1:
            return chance.randbytes(min(size, chance.randrange(16)))
        if kind == 2:
            return bytes(size)
        if kind == 3:
            return b"\xff" * size
        if kind == 4:  # numbers that look like pointers and counts
            words = b"".join(chance.choice(VALUES).to_bytes(8, "little") for _ in range(min(size, 4096) // 8 + 1))
            return (words * (size // len(words) + 1))[:size]
        return (chance.randbytes(min(size, 256)) * (size // 256 + 1))[:size]


def decoded(call: Call, options: TextOptions) -> str:
    decoder = Decoder(options)
    return ", ".join(piece.text for piece in decoder.arguments(call)) + decoder.result(call)


@QUICK
@given(
    seed=st.integers(0, 1 << 32),
    args=st.tuples(*[st.one_of(st.sampled_from(VALUES), st.integers(0, (1 << 64) - 1))] * 6),
    ret=st.one_of(st.none(), st.sampled_from(RESULTS), st.integers(-(1 << 63), (1 << 63) - 1)),
    options=st.sampled_from(OPTIONS),
)
def test_every_call_decodes_whatever_its_arguments_and_memory_are(
    seed: int, args: tuple[int, ...], ret: int | None, options: TextOptions
) -> None:
    memory = Anything(seed)
    for abi, nr in CALLS:
        given_args = tuple(value & 0xFFFFFFFF for value in args) if abi == "i386" else args
        enter = Enter(0, 1, 1, abi, nr, given_args, memory, stack_pointer=args[0])
        call = Call(enter, None if ret is None else Exit(1, 1, 1, ret, memory))
        assert len(decoded(call, options)) < MOST_TEXT


@QUICK
@given(
    pieces=st.lists(st.tuples(st.sampled_from(VALUES), st.binary(max_size=64)), max_size=6),
    args=st.tuples(*[st.sampled_from(VALUES)] * 6),
    ret=st.sampled_from(RESULTS),
)
def test_every_call_decodes_with_little_of_its_memory(
    pieces: list[tuple[int, bytes]], args: tuple[int, ...], ret: int
) -> None:
    memory = Pieces(pieces)
    for abi, nr in CALLS:
        call = Call(Enter(0, 1, 1, abi, nr, args, memory), Exit(1, 1, 1, ret, memory))
        assert len(decoded(call, OPTIONS[1])) < MOST_TEXT


def call_of(
    name: str, *args: int, ret: int | None = 0, memory: Pieces | None = None, after: Pieces | None = None
) -> Call:
    memory = memory or Pieces()
    arguments = (*(value & (1 << 64) - 1 for value in args), *(0,) * (6 - len(args)))
    enter = Enter(0, 1, 1, "x86_64", facts_of("x86_64").numbers[name], arguments, memory)
    return Call(enter, None if ret is None else Exit(1, 1, 1, ret, after or memory))


def arguments_of(call: Call) -> str:
    return ", ".join(piece.text for piece in Decoder().arguments(call))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (call_of("write", 1, 0x1000, 1 << 63, ret=-14), "1, 0x1000, 9223372036854775808"),
        (call_of("writev", 1, 0x1000, 1 << 60, ret=-22), "1, 0x1000, 1152921504606846976"),
        (call_of("poll", 0x1000, (1 << 32) - 1, 0, ret=-22), "0x1000, 4294967295, 0"),
        (call_of("select", (1 << 31) - 1, 0x1000, 0, 0, 0, ret=-9), "2147483647, 0x1000, NULL, NULL, NULL"),
        (call_of("setgroups", 1 << 31, 0x1000, ret=-22), "-2147483648, 0x1000"),
        (call_of("sched_setaffinity", 0, 1 << 63, 0x1000, ret=-14), "0, 9223372036854775808, 0x1000"),
        (call_of("set_mempolicy", 3, 0x1000, 1 << 63, ret=-22), "MPOL_INTERLEAVE, 0x1000, 9223372036854775808"),
        (call_of("execve", 0x1000, 0x2000, 0x3000, ret=-14), "0x1000, 0x2000, 0x3000"),
    ],
)
def test_a_count_beyond_all_memory_is_a_number_and_its_array_an_address(call: Call, text: str) -> None:
    assert arguments_of(call) == text


def test_an_argv_that_goes_on_for_ever_is_cut() -> None:
    pointer = (0x1000).to_bytes(8, "little")
    memory = Pieces([(0x1000, pointer * 9000), (0x900000, b"/bin/true\0")])
    began = time.monotonic()
    text = arguments_of(call_of("execve", 0x900000, 0x1000, 0x1000, memory=memory, ret=-7))
    assert text.startswith('"/bin/true", [') and len(text) < 10_000
    assert time.monotonic() - began < 10, "bounded"


def test_a_string_that_reaches_unmapped_memory_without_its_end_is_an_address() -> None:
    assert arguments_of(call_of("chdir", 0x1FFD, ret=-14, memory=Pieces([(0x1FFD, b"abc")]))) == "0x1ffd"


def test_a_directory_entry_of_no_length_ends_the_entries() -> None:
    after = Pieces([(0x1000, bytes(400))])
    text = arguments_of(call_of("getdents64", 3, 0x1000, 400, ret=400, after=after))
    assert text == "3, 0x1000 /* 0 entries */, 400"


def test_the_longest_piece_of_memory_counts() -> None:
    """execve()'s path may be its first argument too, which is read up to -s."""
    path = b"/a/path/that/is/longer/than/strings/are\0"
    argv = (0x1000).to_bytes(8, "little") + bytes(8)
    memory = Pieces([(0x1000, path), (0x2000, argv), (0x1000, path[:33])])
    text = arguments_of(call_of("execve", 0x1000, 0x2000, 0, memory=memory, ret=-2))
    assert text == '"/a/path/that/is/longer/than/strings/are", ["/a/path/that/is/longer/than/stri"...], NULL'


def test_a_count_may_be_divided_and_is_rounded_up() -> None:
    call = call_of("mincore", 0x1000, 4097, 0x2000)
    parameter = signature_of("x86_64", call.enter.nr).parameters[2]
    assert element_count(call, parameter) == 2


def test_what_select_left_is_shown_with_its_result() -> None:
    before = Pieces([(0x1000, b"\x18" + bytes(7)), (0x2000, (5).to_bytes(8, "little") + bytes(8))])
    after = Pieces([(0x1000, b"\x08" + bytes(7)), (0x2000, (4).to_bytes(8, "little") + (7).to_bytes(8, "little"))])
    call = call_of("select", 5, 0x1000, 0, 0, 0x2000, ret=1, memory=before, after=after)
    pieces = Decoder().arguments(call)
    assert [piece.text for piece in pieces] == ["5", "[3 4]", "NULL", "NULL", "{tv_sec=5, tv_usec=0}"]
    assert not any(piece.at_exit for piece in pieces)
    assert Decoder().result(call) == "1 (in [3], left {tv_sec=4, tv_usec=7})"


@pytest.mark.parametrize(
    ("ret", "text"),
    [(0, "0x2000"), (-4, "{tv_sec=4, tv_nsec=7}"), (-516, "{tv_sec=4, tv_nsec=7}"), (-22, "0x2000")],
)
def test_what_is_left_of_a_sleep_is_shown_where_a_signal_has_interrupted_it(ret: int, text: str) -> None:
    before = Pieces([(0x1000, (5).to_bytes(8, "little") + bytes(8))])
    after = Pieces([(0x2000, (4).to_bytes(8, "little") + (7).to_bytes(8, "little"))])
    call = call_of("nanosleep", 0x1000, 0x2000, ret=ret, memory=before, after=after)
    assert arguments_of(call) == f"{{tv_sec=5, tv_nsec=0}}, {text}"
