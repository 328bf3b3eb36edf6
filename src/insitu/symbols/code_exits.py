"""Where functions end and call others, found by disassembling: for probes that leave return addresses alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

__all__ = ["CALL", "CALL_SLOT", "JUMP_SLOT", "Exits", "call_sites", "entry_skip", "exits_of"]

CALL: Final = b"\xe8"  # call rel32
CALL_SLOT: Final = b"\xff\x15"  # call *rel32(%rip)
JUMP_SLOT: Final = b"\xff\x25"  # jmp *rel32(%rip)
_OFFSET_BYTES: Final = 4
_MOST_CODE: Final = 1 << 20  # bytes of one function


class Exits(NamedTuple):
    """Offsets in a function's code of its return instructions, and of its jumps to other functions (tail calls).

    ``known``: all of its code could be disassembled.
    """

    returns: tuple[int, ...] = ()
    jumps: tuple[int, ...] = ()
    known: bool = False


def exits_of(code: bytes) -> Exits:
    """The exits of a function with this code. Conditional and indirect tail calls are not among them."""
    returns, jumps, end = [], [], 0
    for at, size, mnemonic, operands in _instructions(code):
        end = at + size
        word = mnemonic.split()[-1]
        if word in ("ret", "retf"):
            returns.append(at)
        elif word == "jmp" and _leaves(operands, len(code)):
            jumps.append(at)
    if end < len(code):
        return Exits()
    return Exits(tuple(returns), tuple(jumps), bool(code))


def entry_skip(code: bytes) -> int:
    """How far after a function's entry a probe is put: past an endbr64, which the kernel has to single-step, and past
    instructions with a lock prefix, where it takes no probe (is_prefix_bad() of arch/x86/kernel/uprobes.c).

    0 where a jump leads there, which would be taken for another call.
    """
    skipped = 0
    targets = set()
    for at, size, mnemonic, operands in _instructions(code):
        if at == skipped and (mnemonic == "endbr64" or mnemonic.startswith("lock ")):
            skipped = at + size
        elif not skipped:
            return 0
        if mnemonic.startswith("j") and (target := _target(operands)) is not None:
            targets.add(target)
    return 0 if any(0 < target <= skipped for target in targets) else skipped


def call_sites(
    code: bytes, address: int, functions: Iterable[tuple[int, int]], targets: Iterable[int], opcode: bytes = CALL
) -> list[tuple[int, int, int]]:
    """Calls of ``targets`` in ``code``, which begins at ``address``: (the instruction, the one after it, the target).

    With the opcode CALL_SLOT or JUMP_SLOT, targets are the addresses of the words that functions' addresses are in.
    ``functions`` are (address, size), ascending: code in none of them is not looked at.
    """
    data = np.frombuffer(code, np.uint8)
    size = len(opcode) + _OFFSET_BYTES
    at = np.arange(max(0, len(data) - size + 1))
    for index, byte in enumerate(opcode):
        at = at[data[at + index] == byte]
    relative = np.zeros(len(at), np.int64)
    for byte in range(_OFFSET_BYTES):
        relative |= data[at + len(opcode) + byte].astype(np.int64) << 8 * byte
    relative -= relative >> 31 << 32
    target = address + at + size + relative
    wanted = np.isin(target, np.fromiter(targets, np.int64))
    place, target = at[wanted] + address, target[wanted]
    found = []
    for start, length in functions:
        low, high = np.searchsorted(place, (start, start + length))
        if low < high:
            inside = dict(zip(place[low:high].tolist(), target[low:high].tolist(), strict=True))
            for at_, size_, _, _ in _instructions(code[start - address : start - address + length]):
                if start + at_ in inside:
                    found.append((start + at_, start + at_ + size_, inside[start + at_]))
    return found


def _leaves(operands: str, size: int) -> bool:
    """Whether a jump leads out of a function of that size."""
    target = _target(operands)
    return "[rip" in operands if target is None else not 0 <= target < size


def _target(operands: str) -> int | None:
    """The target of a direct jump."""
    return int(operands, 0) if operands.startswith("0x") or operands.isdecimal() else None


def _instructions(code: bytes) -> Iterator[tuple[int, int, str, str]]:
    if os.uname().machine != "x86_64" or len(code) > _MOST_CODE:
        return iter(())
    import capstone

    found: Iterator[tuple[int, int, str, str]] = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm_lite(
        code, 0
    )
    return found
