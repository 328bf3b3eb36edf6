"""Where functions end and call others, found by disassembling: for probes that leave return addresses alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

__all__ = ["Exits", "call_sites", "entry_skip", "exits_of"]

_CALL: Final = 0xE8  # call rel32
_CALL_BYTES: Final = 5
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


def call_sites(code: bytes, address: int, functions: Iterable[tuple[int, int]], targets: Iterable[int]) -> list[int]:
    """Addresses of the instructions after calls of ``targets`` in ``code``, which begins at ``address``.

    ``functions`` are (address, size): code in none of them is not looked at.
    """
    data = np.frombuffer(code, np.uint8)
    at = np.flatnonzero(data[: max(0, len(data) - _CALL_BYTES + 1)] == _CALL)
    relative = np.zeros(len(at), np.int64)
    for byte in range(4):
        relative |= data[at + 1 + byte].astype(np.int64) << 8 * byte
    relative -= relative >> 31 << 32
    wanted = np.fromiter(targets, np.int64)
    candidates = at[np.isin(address + at + _CALL_BYTES + relative, wanted)] + address
    found = set()
    for start, size in functions:
        low, high = np.searchsorted(candidates, (start, start + size))
        inside = set(candidates[low:high].tolist())
        if inside:
            body = code[start - address : start - address + size]
            found |= {start + at + length for at, length, _, _ in _instructions(body) if start + at in inside}
    return sorted(found)


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
