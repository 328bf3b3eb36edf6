"""Stacks made by hand, whose frames are known by arithmetic."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from insitu.errors import InsituError
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Mapping, Module, ProcessMap
from insitu.symbols.registers import AARCH64, machine_called
from insitu.symbols.unwind import CUT, Unwinder, UserStacks, unwind

MASK = 0xFF0FFF  # what perf record asks for on x86-64: all but the segment registers
BP, SP, IP = 6, 7, 8  # their bits in it
STACK = 0x7FFE_0000_1000

# CFA = rsp + 8, return address at CFA - 8
CALL_SITE = bytes([0x0C, 7, 8, 0x90, 1])


def uleb(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def entry(body: bytes) -> bytes:
    body = body.ljust(-(-len(body) // 8) * 8 + 4, b"\0")
    return struct.pack("<I", len(body)) + body


def image(
    functions: Sequence[tuple[int, int, bytes]],
    *,
    initial: bytes = CALL_SITE,
    signal: Sequence[int] = (),
    return_register: int = 16,
    machine: int = 62,
    data_align: int = 0x78,
) -> Elf:
    """An ELF image mapped at its file offsets. ``functions`` are (start, size, call frame program).

    ``signal`` are the starts of functions that are signal trampolines.
    """
    frames = b""
    for augmentation in (b"zR\0", b"zRS\0"):
        cie_at = len(frames)
        frames += entry(
            struct.pack("<IB", 0, 1) + augmentation + bytes([1, data_align, return_register, 1, 0x00]) + initial
        )  # code alignment 1, data alignment -8 by default (SLEB128); absolute addresses
        for start, size, program in functions:
            if (start in signal) == (augmentation == b"zRS\0"):
                identity = len(frames) + 4 - cie_at
                frames += entry(struct.pack("<IQQ", identity, start, size) + b"\0" + program)
    names = b"\0.eh_frame\0.shstrtab\0"
    text = 0x10000
    frames_at = text
    names_at = frames_at + len(frames)
    headers_at = names_at + len(names)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, headers_at, 0, 64, 56, 1, 64, 3, 2
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, text, text, 0x1000)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 2, frames_at, frames_at, len(frames), 0, 0, 8, 0)
    sections += struct.pack("<IIQQQQIIQQ", 11, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return Elf((header + load).ljust(text, b"\0") + frames + names + sections)


def spaces(*starts: int) -> ProcessMap:
    """One epoch for each start of the module's mapping."""
    return ProcessMap([Module("/prog")], [(Mapping(start, start + 0x10000, 0, 0),) for start in starts])


def stacks(
    words: Sequence[Sequence[int]], ip: Sequence[int], *, bp: Sequence[int] | None = None, skew: int = 0
) -> UserStacks:
    """Samples whose copies hold ``words``; each buffer begins ``skew`` bytes off a word's bounds."""
    # perf does not read the last word of a copy, so that one more is put there.
    copies = [struct.pack(f"<{len(copy) + 1}Q", *copy, 0) for copy in words]
    sizes = [len(copy) for copy in copies]
    buffer = np.frombuffer(bytearray(skew) + b"".join(copies), np.uint8)
    registers = np.zeros((len(words), MASK.bit_count()), np.uint64)
    registers[:, SP], registers[:, IP] = STACK, ip
    if bp is not None:
        registers[:, BP] = bp
    starts = skew + np.cumsum([0, *sizes[:-1]])
    return UserStacks(registers, MASK, buffer, starts, np.array(sizes), np.zeros(len(words), np.int32))


def frames(result: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    offsets, addresses = result
    return [addresses[a:b].tolist() for a, b in pairwise(offsets.tolist())]


# 0x100: a leaf; 0x200: 16 bytes of locals from 0x204 on; 0x300: saves rbp, which is the CFA's register;
# 0x400: its return address is undefined; 0x600: saves rbx and computes the CFA from it.
FUNCTIONS = [
    (0x100, 0x10, b""),
    (0x200, 0x20, b"\x44\x0e\x18"),
    (0x300, 0x20, b"\x41\x0e\x10\x86\x02\x43\x0d\x06"),
    (0x400, 0x10, b"\x07\x10"),
    (0x600, 0x10, b"\x0c\x03\x10\x83\x02"),
]
BASE = 0x5555_0000_0000


def prog(_: Module) -> Elf:
    return image(FUNCTIONS)


@pytest.mark.parametrize("skew", [0, 1, 4, 8])
def test_frames_of_all_kinds_wherever_the_copy_lies(skew: int) -> None:
    frame_pointer = STACK + 8 * 4
    words = [BASE + 0x210, 11, 12, BASE + 0x308, 99, BASE + 0x404, 1, 2]
    result = unwind(stacks([words], [BASE + 0x104], bp=[frame_pointer], skew=skew), spaces(BASE), prog)
    assert frames(result) == [[BASE + 0x104, BASE + 0x210, BASE + 0x308, BASE + 0x404]]


def recursion(depth: int) -> list[int]:
    """The stack below a leaf: ``depth`` frames with two words of locals each, then the outermost one."""
    returns = [BASE + 0x210] * depth + [BASE + 0x404]
    return [returns[0]] + [word for address in returns[1:] for word in (0, 0, address)]


def test_samples_of_different_depths_end_each_by_itself() -> None:
    result = unwind(stacks([recursion(depth) for depth in range(40)], [BASE + 0x100] * 40), spaces(BASE), prog)
    assert frames(result) == [[BASE + 0x100] + [BASE + 0x210] * depth + [BASE + 0x404] for depth in range(40)]


def test_no_stack_is_deeper_than_asked_for() -> None:
    result = unwind(stacks([recursion(40)] * 2, [BASE + 0x100] * 2), spaces(BASE), prog, max_depth=5)
    assert frames(result) == [[BASE + 0x100] + [BASE + 0x210] * 4] * 2


def test_a_stack_that_was_cut_says_so_and_one_that_just_fits_does_not() -> None:
    # The leaf, recursion(n)'s n calls and the outermost frame are n + 2.
    sample = stacks([recursion(depth) for depth in (2, 3, 4)], [BASE + 0x100] * 3)
    unwinder = Unwinder(spaces(BASE), prog, max_depth=5, mark_cut=True)
    leaf, call, outermost = BASE + 0x100, BASE + 0x210, BASE + 0x404
    assert frames(unwinder.unwind(sample)) == [
        [leaf, call, call, outermost],
        [leaf, call, call, call, outermost],
        [leaf, call, call, call, call, int(CUT)],
    ]
    assert unwinder.notes() == ["1 stack was cut at 5 frames (--max-stack raises the limit)"]


def test_a_stack_that_is_longer_than_its_copy_says_so_and_one_that_ends_there_does_not() -> None:
    whole = recursion(3)
    sample = stacks([whole, whole[:-1], whole[:4]], [BASE + 0x100] * 3)
    unwinder = Unwinder(spaces(BASE), prog, mark_cut=True)
    leaf, call, outermost = BASE + 0x100, BASE + 0x210, BASE + 0x404
    assert frames(unwinder.unwind(sample)) == [
        [leaf, call, call, call, outermost],
        [leaf, call, call, call, int(CUT)],
        [leaf, call, call, int(CUT)],
    ]
    assert [note.partition(":")[0] for note in unwinder.notes()] == ["2 stacks are truncated"]
    unmarked = Unwinder(spaces(BASE), prog)
    assert frames(unmarked.unwind(sample))[2] == [leaf, call, call] and unmarked.notes() == []


@pytest.mark.parametrize("saves_rbp", [False, True])
def test_perf_trampolines_of_python_are_stepped_over(saves_rbp: bool) -> None:
    """3.12's "sub $8, %rsp; call *%rcx", and "push %rbp; mov %rsp, %rbp; call *%rcx"."""
    jit, at = 0x7F00_0000_0000, STACK + 8
    outer_rbp = STACK + 8 * 6
    # The leaf's return address; the trampoline's 8 bytes and return address, to code that needs rbp; its frame.
    words = [jit + 0x20, outer_rbp if saves_rbp else 0xDEAD, BASE + 0x308, 1, 2, 3, 99, BASE + 0x404, 1, 2]
    sample = stacks([words], [BASE + 0x104], bp=[at if saves_rbp else outer_rbp])
    made = ProcessMap(
        [Module("/prog"), Module("//anon", pid=7)],
        [(Mapping(BASE, BASE + 0x10000, 0, 0), Mapping(jit, jit + 0x1000, 0, 1))],
    )

    def trampolines(module: Module, addresses: np.ndarray) -> np.ndarray:
        assert module.pid == 7
        return (addresses >= jit) & (addresses < jit + 0x40)

    unwinder = Unwinder(
        made, lambda module: prog(module) if module.path == "/prog" else None, trampolines=trampolines
    )
    assert frames(unwinder.unwind(sample)) == [[BASE + 0x104, jit + 0x20, BASE + 0x308, BASE + 0x404]]


def test_samples_with_32_bit_registers_are_unwound_with_4_byte_words_among_the_others() -> None:
    # 0x100: CFA = esp + 4, return address at CFA - 4; 0x200: 8 bytes of locals more.
    narrow = image([(0x100, 0x10, b""), (0x200, 0x20, b"\x0e\x0c")], initial=bytes([0x0C, 4, 4, 0x88, 1]),
                   return_register=8, machine=3, data_align=0x7C)  # fmt: skip
    low, base = 0xFFFF_0000, 0x0804_8000
    words = struct.pack("<8I", base + 0x210, 7, 7, base + 0x218, 7, 7, 0, 0)
    wide = stacks([recursion(2)], [BASE + 0x100])
    buffer = np.concatenate([wide.stack, np.frombuffer(words + bytes(8), np.uint8)])
    registers = np.concatenate([wide.registers, wide.registers])[[1, 0, 1]]
    registers[[0, 2], SP], registers[[0, 2], IP] = low, base + 0x108
    size = int(wide.stack_size[0])
    starts, sizes = np.array([len(wide.stack), 0, len(wide.stack)]), np.array([len(words) + 8, size, 8])
    sample = UserStacks(
        registers, MASK, buffer, starts, sizes, np.array([1, 0, 1], np.int32), np.array([1, 2, 1], np.uint64)
    )
    made = ProcessMap(
        [Module("/prog"), Module("/narrow")],
        [(Mapping(BASE, BASE + 0x10000, 0, 0),), (Mapping(base, base + 0x10000, 0, 1),)],
    )
    result = frames(
        Unwinder(made, lambda module: narrow if module.path == "/narrow" else prog(module)).unwind(sample)
    )
    assert result == [
        [base + 0x108, base + 0x210, base + 0x218],
        [BASE + 0x100, BASE + 0x210, BASE + 0x210, BASE + 0x404],
        [base + 0x108],  # no more of its stack was copied
    ]


def test_a_machine_without_a_table_of_registers_is_refused_by_name() -> None:
    with pytest.raises(InsituError, match="riscv64"):
        machine_called("riscv64")


def test_32_bit_samples_of_a_machine_that_unwinds_none_keep_their_leaf_and_are_reported() -> None:
    sample = replace(stacks([[1, 2]], [BASE]), abi=np.array([1], np.uint64))
    unwinder = Unwinder(spaces(BASE), prog, machine=AARCH64)
    assert [len(chain) for chain in frames(unwinder.unwind(sample))] == [1]
    assert unwinder.notes() == ["1 sample of a 32-bit process has no callers: not supported on aarch64"]


def test_more_samples_than_fit_into_a_block_are_unwound_alike() -> None:
    count = 40_000
    made = stacks([recursion(3)], [BASE + 0x100])
    many = UserStacks(
        np.repeat(made.registers, count, 0), MASK, made.stack, *(np.repeat(x, count) for x in (
            made.stack_start, made.stack_size, made.epoch))
    )  # fmt: skip
    offsets, addresses = unwind(many, spaces(BASE), prog)
    assert offsets.tolist() == list(range(0, 5 * count + 1, 5))
    assert (addresses.reshape(count, 5) == [BASE + at for at in (0x100, 0x210, 0x210, 0x210, 0x404)]).all()


def test_a_copy_that_was_cut_off_ends_the_stack_there() -> None:
    words = recursion(9)
    for kept in range(len(words)):
        returns = [word for word in words[:kept] if word]
        assert frames(unwind(stacks([words[:kept]], [BASE + 0x100]), spaces(BASE), prog)) == [
            [BASE + 0x100, *returns]
        ]


def test_a_return_address_of_zero_ends_the_stack() -> None:
    words = [BASE + 0x210, 0, 0, 0, 0, 0, BASE + 0x404]
    assert frames(unwind(stacks([words], [BASE + 0x100]), spaces(BASE), prog)) == [[BASE + 0x100, BASE + 0x210]]


def test_a_step_that_changes_nothing_ends_the_stack() -> None:
    still = image([(0x700, 0x10, bytes([0x0C, 7, 0, 0x90, 0]))])  # CFA = rsp, return address at CFA
    words = [BASE + 0x704] * 4
    assert frames(unwind(stacks([words], [BASE + 0x702]), spaces(BASE), lambda _: still)) == [
        [BASE + 0x702, BASE + 0x704]
    ]


def test_a_register_that_only_a_late_sample_needs_is_recovered_through_the_frames_before() -> None:
    # The leaf of function 0x600 saves rbx; its caller, of the same function, computes its CFA from that value.
    rbx = STACK + 8 * 6
    words = [rbx, BASE + 0x604, 0, 0, 0, 0, 7, BASE + 0x404, 0]
    plain = recursion(7)
    count = 600
    made = stacks([*[plain] * count, words], [BASE + 0x100] * count + [BASE + 0x604])
    made.registers[-1, 1] = STACK  # PERF_REG_X86_BX
    result = frames(unwind(made, spaces(BASE), prog))
    assert result[-1] == [BASE + 0x604, BASE + 0x604, BASE + 0x404]
    assert result[:-1] == [[BASE + 0x100] + [BASE + 0x210] * 7 + [BASE + 0x404]] * count


def test_what_a_signal_interrupted_is_looked_up_by_its_own_address() -> None:
    # The trampoline at 0x500 finds the interrupted rsp, rip and rbp 32, 24 and 16 bytes above its own rsp.
    block = [bytes([0x77, 32, 0x06]), bytes([0x77, 24]), bytes([0x77, 16])]
    program = b"\x0f" + uleb(3) + block[0] + b"\x10\x10" + uleb(2) + block[1] + b"\x10\x06" + uleb(2) + block[2]
    elf = image([*FUNCTIONS, (0x4FF, 0x10, program)], signal=[0x4FF])
    interrupted = STACK + 8 * 8
    # Stopped at the first instruction of function 0x200, before it makes room for locals: CFA = rsp + 8.
    words = [BASE + 0x500, 0, 0, STACK + 80, BASE + 0x200, interrupted, 0, 0, BASE + 0x308, 5, 0, 0, BASE + 0x404]
    words[9:13] = [0, 0, BASE + 0x404, 0]
    result = frames(unwind(stacks([words], [BASE + 0x100]), spaces(BASE), lambda _: elf))
    # rbp points to word 10; function 0x300 has saved it there, and its return address lies above.
    assert result == [[BASE + 0x100, BASE + 0x500, BASE + 0x200 + 1, BASE + 0x308, BASE + 0x404]]


def test_functions_without_call_frame_information_are_stepped_over_by_the_frame_pointer() -> None:
    words = [5, 6, 0, BASE + 0x404]
    sample = stacks([words], [BASE + 0x904], bp=[STACK + 16])
    assert frames(unwind(sample, spaces(BASE), prog)) == [[BASE + 0x904, BASE + 0x404]]


@pytest.mark.parametrize("bp", [0, STACK - 8, STACK + 0x5000, 2**64 - 8])
def test_a_frame_pointer_that_cannot_be_one_is_not_followed(bp: int) -> None:
    sample = stacks([[5, 6, 0, BASE + 0x404]], [BASE + 0x904], bp=[bp])
    assert frames(unwind(sample, spaces(BASE), prog)) == [[BASE + 0x904]]


def test_code_without_a_file_ends_the_stack_unless_frame_pointers_are_asked_for() -> None:
    jit = 0x7F00_0000_0000
    sample = stacks([[STACK + 32, jit, 5, 6, 0, BASE + 0x404]], [jit + 64], bp=[STACK])
    assert frames(unwind(sample, spaces(BASE), prog)) == [[jit + 64]]
    followed = unwind(sample, spaces(BASE), prog, frame_pointers=True)
    assert frames(followed) == [[jit + 64, jit, BASE + 0x404]]


def test_one_address_is_another_function_in_another_epoch() -> None:
    words = [BASE + 0x210, 1, 2, BASE + 0x404]
    sample = stacks([words, words, words], [BASE + 0x104] * 3)
    sample.epoch[:] = [0, 1, -1]
    # In epoch 1 the file lies 0x200 bytes lower: 0x104 is in function 0x300 there, whose CFA is rbp + 16.
    made = ProcessMap(
        [Module("/prog")], [(Mapping(BASE, BASE + 0x1000, 0, 0),), (Mapping(BASE, BASE + 0x1000, 0x200, 0),)]
    )
    sample.registers[:, BP] = STACK + 16
    assert frames(unwind(sample, made, prog)) == [
        [BASE + 0x104, BASE + 0x210, BASE + 0x404],
        [BASE + 0x104, BASE + 0x404],
        [BASE + 0x104],
    ]


def test_more_epochs_than_a_look_up_holds_are_distinguished() -> None:
    count = 70_000
    made = stacks([[BASE + 0x210, 1, 2, BASE + 0x404]], [BASE + 0x104])
    epochs = np.arange(count, dtype=np.int32)
    many = UserStacks(np.repeat(made.registers, count, 0), MASK, made.stack, np.zeros(count, np.int64),
                      np.repeat(made.stack_size, count), epochs)  # fmt: skip
    # Every second epoch has nothing mapped.
    mapping = (Mapping(BASE, BASE + 0x1000, 0, 0),)
    made_spaces = ProcessMap([Module("/prog")], [mapping, ()] * (count // 2))
    offsets, _ = unwind(many, made_spaces, prog)
    assert np.diff(offsets).tolist() == [3, 1] * (count // 2)


def missing(module: Module) -> Elf | None:
    raise FileNotFoundError(module.path)


def refused(module: Module) -> Elf | None:
    raise InsituError("not an ELF file")


@pytest.mark.parametrize("open_module", [missing, refused, lambda _: None, lambda _: image([])])
def test_files_that_cannot_be_had_end_stacks_at_the_leaf(open_module: Callable[[Module], Elf | None]) -> None:
    assert frames(unwind(stacks([recursion(2)], [BASE + 0x100]), spaces(BASE), open_module)) == [[BASE + 0x100]]


def test_a_sample_with_an_empty_copy_has_no_frames_as_in_perf() -> None:
    sample = stacks([recursion(1), recursion(1)], [BASE + 0x100] * 2)
    sample.stack_size[0] = 0
    assert frames(unwind(sample, spaces(BASE), prog)) == [[], [BASE + 0x100, BASE + 0x210, BASE + 0x404]]


def test_no_samples_have_no_frames() -> None:
    offsets, addresses = unwind(stacks([], []), spaces(BASE), prog)
    assert offsets.tolist() == [0]
    assert len(addresses) == 0


def test_a_register_that_was_not_recorded_is_followed_nowhere() -> None:
    words = [BASE + 0x308, 99, 5, 6, 0, BASE + 0x404]
    sample = stacks([words], [BASE + 0x100], bp=[STACK + 32])
    assert frames(unwind(sample, spaces(BASE), prog)) == [[BASE + 0x100, BASE + 0x308, BASE + 0x404]]
    without = np.delete(sample.registers, BP, 1)
    less = UserStacks(without, MASK & ~(1 << BP), sample.stack, sample.stack_start, sample.stack_size, sample.epoch)
    assert frames(unwind(less, spaces(BASE), prog)) == [[BASE + 0x100, BASE + 0x308]]


def test_aarch64_returns_through_the_link_register_and_signed_addresses() -> None:
    # CFA = sp; function 0x200 has saved x29 and x30 at CFA - 32 and CFA - 24; 0x400 is outermost.
    functions = [(0x100, 0x10, b""), (0x200, 0x20, b"\x44\x2d\x0e\x20\x9d\x04\x9e\x03"), (0x400, 0x10, b"\x07\x1e")]
    elf = image(functions, initial=bytes([0x0C, 31, 0]), return_register=30, machine=183)
    signature = 0x2A << 48
    words = struct.pack("<8Q", STACK + 64, signature | BASE + 0x404, 0, 0, 0, 0, 0, 0)
    registers = np.zeros((1, 33), np.uint64)
    registers[0, 30:33] = [signature | BASE + 0x210, STACK, BASE + 0x104]
    sample = UserStacks(
        registers, (1 << 33) - 1, np.frombuffer(words, np.uint8), np.array([0]), np.array([64]), np.zeros(1, np.int32)
    )
    result = unwind(sample, spaces(BASE), lambda _: elf, machine=AARCH64)
    assert frames(result) == [[BASE + 0x104, BASE + 0x210, BASE + 0x404]]


def test_what_is_learnt_of_a_file_is_kept_for_the_next_part_of_a_recording() -> None:
    opened: list[Module] = []
    unwinder = Unwinder(spaces(BASE), lambda module: opened.append(module) or prog(module))
    sample = stacks([recursion(3)], [BASE + 0x100])
    assert frames(unwinder.unwind(sample)) == frames(unwinder.unwind(sample))
    assert len(opened) == 1


def test_random_registers_stacks_and_places_raise_nothing() -> None:
    generator = np.random.default_rng(7)
    words = generator.integers(0, 2**64, 4096, dtype=np.uint64)
    likely = BASE + generator.integers(0x100, 0x700, 4096).astype(np.uint64)
    near = STACK + generator.integers(-64, 4096, 4096).astype(np.uint64)
    pick = generator.integers(0, 3, 4096)
    buffer = np.where(pick == 0, words, np.where(pick == 1, likely, near)).view(np.uint8)
    count = 3000
    registers = buffer.view(np.uint64)[generator.integers(0, 4096, (count, MASK.bit_count()))]
    starts = generator.integers(-100, len(buffer) + 100, count)
    sizes = generator.integers(-100, 70_000, count)
    epochs = generator.integers(-1, 2, count).astype(np.int32)
    sample = UserStacks(registers, MASK, buffer, starts, sizes, epochs)
    offsets, addresses = unwind(sample, spaces(BASE, BASE + 0x100), prog, frame_pointers=True)
    assert offsets[-1] == len(addresses)
    assert np.diff(offsets).max() <= 127


def test_random_call_frame_programs_raise_nothing() -> None:
    generator = random.Random(11)
    opcodes = [0x01, 0x02, *range(0x05, 0x17), 0x2D, 0x2E, 0x2F, 0x41, 0x44, 0x83, 0x86, 0x90, 0xC6, 0xD0]
    sample = stacks([recursion(4)] * 3, [BASE + 0x100, BASE + 0x204, BASE + 0x309], bp=[STACK + 16] * 3)
    for _ in range(400):
        functions = []
        for start, size, _ in FUNCTIONS:
            program = b"".join(
                bytes([generator.choice(opcodes)]) + generator.randbytes(generator.choice([0, 1, 1, 2, 2, 4]))
                for _ in range(generator.randrange(12))
            )
            functions.append((start, size, program))
        elf = image(functions, signal=[0x300])
        offsets, addresses = unwind(sample, spaces(BASE), lambda _, elf=elf: elf)
        assert offsets[-1] == len(addresses)
