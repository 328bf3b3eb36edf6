"""Where functions end, by their machine code."""

import os

import pytest

from insitu.symbols.code_exits import CALL_SLOT, call_sites, entry_skip, exits_of

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 machine code")

# As `objdump -d` shows them.
PUSH, RET, NOP = "55", "c3", "90"
ENDBR64 = "f30f1efa"
LOCKED_ADD = "f0830001"  # lock addl $1, (%rax)


def test_every_return_instruction_and_jump_out_of_the_function_is_an_exit() -> None:
    code = bytes.fromhex(PUSH + "7402" + RET + NOP + "e9f5ffffff")  # je +2; ret; nop; jmp -11: in front of it
    found = exits_of(code)
    assert (found.returns, found.jumps, found.known) == ((3,), (5,), True)


def test_a_jump_inside_the_function_is_no_exit() -> None:
    assert exits_of(bytes.fromhex(PUSH + "ebfd" + RET)).jumps == ()  # jmp to its beginning


def test_code_that_cannot_be_decoded_has_no_known_exits() -> None:
    assert not exits_of(bytes.fromhex(RET + "06")).known  # push %es: not in 64-bit mode


@pytest.mark.parametrize(
    ("code", "skipped"),
    [
        (PUSH + RET, 0),
        (ENDBR64 + PUSH + RET, 4),
        (LOCKED_ADD + RET, 4),
        (ENDBR64 + LOCKED_ADD + RET, 8),
        (ENDBR64 + PUSH + "ebfd" + RET, 0),  # a loop that begins after endbr64
    ],
)
def test_probes_are_put_after_what_the_kernel_cannot_probe_unless_a_loop_begins_there(
    code: str, skipped: int
) -> None:
    assert entry_skip(bytes.fromhex(code)) == skipped


def test_calls_of_a_target_are_found_where_instructions_begin_only() -> None:
    # 0x1000: call 0x2000; ret. 0x1006: mov $imm32, %eax, whose bytes look like that call; ret.
    code = bytes.fromhex("e8fb0f0000" + RET + "b8e8f40f00" + RET)
    assert call_sites(code, 0x1000, [(0x1000, 6), (0x1006, 6)], [0x2000]) == [(0x1000, 0x1005, 0x2000)]


def test_calls_through_a_slot_are_found_with_it() -> None:
    code = bytes.fromhex("ff15fa0f0000" + RET)  # 0x1000: call *0x2000(%rip's next is 0x1006)
    assert call_sites(code, 0x1000, [(0x1000, 7)], [0x2000], CALL_SLOT) == [(0x1000, 0x1006, 0x2000)]
