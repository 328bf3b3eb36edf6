"""Where functions end and call others, found by disassembling: for probes that leave return addresses alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import capstone

__all__ = ["CALL", "CALL_SLOT", "MOST_CODE", "Exits", "call_sites", "entry_skip", "exits_of"]

CALL: Final = b"\xe8"  # call rel32
CALL_SLOT: Final = b"\xff\x15"  # call *rel32(%rip)
MOST_CODE: Final = 1 << 20
"""Bytes of a function; larger ones are not disassembled."""
_OFFSET_BYTES: Final = 4
_MOST_RELATIVE: Final = 1 << 32  # more than a call reaches
_ENDBR64: Final = b"\xf3\x0f\x1e\xfa"
_LOCK: Final = 0xF0
_PREFIXES: Final = frozenset({_LOCK, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3})
_MOST_SKIPPED: Final = 32  # bytes: an endbr64 and a locked instruction


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
    if not _is_special(code):
        return 0
    skipped = 0
    for at, size, mnemonic, _ in _instructions(code[:_MOST_SKIPPED]):
        if at != skipped or not (mnemonic == "endbr64" or mnemonic.startswith("lock ")):
            break
        skipped = at + size
    if not skipped or not _may_jump_into(code, skipped):
        return skipped
    jumps = (_target(operands) for _, _, mnemonic, operands in _instructions(code) if mnemonic.startswith("j"))
    return 0 if any(target is not None and 0 < target <= skipped for target in jumps) else skipped


def _is_special(code: bytes) -> bool:
    """Whether code begins with an endbr64, or with an instruction that has a lock prefix."""
    if code.startswith(_ENDBR64):
        return True
    for byte in code[:_MOST_SKIPPED]:
        if byte not in _PREFIXES:
            return False
        if byte == _LOCK:
            return True
    return False


def _may_jump_into(code: bytes, skipped: int) -> bool:
    """Whether any bytes of the code look like a direct jump to between its first byte and ``skipped``."""
    data = np.frombuffer(code, np.uint8)
    for width in (1, _OFFSET_BYTES):
        if len(data) > width:
            ends = np.arange(1 + width, len(data) + 1)
            target = ends + _relative(data, ends - width, width)
            if bool(((target > 0) & (target <= skipped)).any()):
                return True
    return False


def call_sites(
    code: bytes, address: int, functions: Iterable[tuple[int, int]], targets: Iterable[int], opcode: bytes = CALL
) -> list[tuple[int, int, int]]:
    """Calls of ``targets`` in ``code``, which begins at ``address``: (the instruction, the one after it, the target).

    With the opcode CALL_SLOT, targets are the addresses of the words that functions' addresses are in.
    ``functions`` are (address, size), ascending: code in none of them is not looked at.
    """
    # All places are counted from the code's beginning: addresses of damaged files do not fit into numpy's numbers.
    reach = len(code) + _MOST_RELATIVE
    wanted = np.unique(np.fromiter((each - address for each in targets if abs(each - address) < reach), np.int64))
    data = np.frombuffer(code, np.uint8)
    size = len(opcode) + _OFFSET_BYTES
    if not len(wanted) or len(data) < size:
        return []
    found_at = data[: len(data) - size + 1] == opcode[0]
    for index, byte in enumerate(opcode[1:], 1):
        found_at &= data[index : len(found_at) + index] == byte
    at = np.flatnonzero(found_at)
    target = at + size + _relative(data, at + len(opcode), _OFFSET_BYTES)
    near = np.minimum(np.searchsorted(wanted, target), len(wanted) - 1)
    called = wanted[near] == target
    place, target = at[called], target[called]
    bounds = np.array(
        [
            (start - address, min(start - address + length, len(code)))
            for start, length in functions
            if 0 <= start - address < len(code)
        ],
        np.int64,
    ).reshape(-1, 2)
    low, high = np.searchsorted(place, bounds[:, 0]), np.searchsorted(place, bounds[:, 1])
    found = []
    for number in np.flatnonzero(low < high).tolist():
        start, end = bounds[number].tolist()
        inside = dict(
            zip(place[low[number] : high[number]].tolist(), target[low[number] : high[number]].tolist(), strict=True)
        )
        for at_, size_, _, _ in _instructions(code[start:end]):
            if start + at_ in inside:
                call = address + start + at_
                found.append((call, call + size_, address + inside[start + at_]))
    return found


def _relative(data: NDArray[np.uint8], at: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The signed little-endian numbers of ``width`` bytes that begin at these places."""
    value = np.zeros(len(at), np.int64)
    for byte in range(width):
        value |= data[at + byte].astype(np.int64) << 8 * byte
    sign = 8 * width - 1
    return value - (value >> sign << sign + 1)


def _leaves(operands: str, size: int) -> bool:
    """Whether a jump leads out of a function of that size."""
    target = _target(operands)
    return "[rip" in operands if target is None else not 0 <= target < size


def _target(operands: str) -> int | None:
    """The target of a direct jump."""
    return int(operands, 0) if operands.startswith("0x") or operands.isdecimal() else None


def _instructions(code: bytes) -> Iterator[tuple[int, int, str, str]]:
    if os.uname().machine != "x86_64" or len(code) > MOST_CODE:
        return iter(())
    found: Iterator[tuple[int, int, str, str]] = _disassembler().disasm_lite(code, 0)
    return found


@cache  # making one takes as long as a function of some hundred instructions
def _disassembler() -> capstone.Cs:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
