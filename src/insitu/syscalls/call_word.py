"""The word that the BPF engine has for each thread, and the records of a call's two halves carry.

It says which call the thread has made last, and which of its calls that is: no two have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from insitu.errors import InsituError

__all__ = [
    "ABI_SHIFT",
    "ATTACHED",
    "FIRST",
    "HELD",
    "NUMBER_MASK",
    "OPEN",
    "RETRY",
    "SEQUENCE",
    "UNKNOWN",
    "abis_of",
    "following",
    "number_of",
]

SEQUENCE: Final = 20
FIRST: Final = 1 << SEQUENCE
"""The word of a thread that has made no call yet."""
NUMBER_MASK: Final = 0xFFF
UNKNOWN: Final = 0xFFF
"""Of any greater number."""
ABI_SHIFT: Final = 12
"""An index of abis_of()."""
OPEN: Final = 1 << 14
"""The call is recorded: so is its exit."""
RETRY: Final = 1 << 15
"""What the call's entry should have read was not in memory yet; at its exit it is."""
HELD: Final = 1 << 16
"""A command before its program has started: nothing but execve() is recorded."""
ATTACHED: Final = 1 << 17
"""The call ran already when the recording began."""


_X32_BIT: Final = 1 << 30
"""include/uapi/asm/unistd.h"""
_ABIS: Final = {"x86_64": ("x86_64", "i386", "x32", ""), "aarch64": ("aarch64", "arm", "", "")}


def abis_of(machine: str) -> Sequence[str]:
    """Returns the ABIs of a machine's calls, by the number that the word has for them; "" where there is none.

    Raises InsituError for a machine that is not in the table.
    """
    if machine not in _ABIS:
        raise InsituError(f"the system calls of {machine} are not known")
    return _ABIS[machine]


def number_of(abi: str, nr: int) -> int:
    """Returns the number that the tables have for a call: in the word, those of x32 are without their bit."""
    return nr | _X32_BIT if abi == "x32" else nr


def following(word: int) -> int:
    """Returns the sequence number of a thread's next call, by its word; 0: it has made none that was seen."""
    return (word >> SEQUENCE or 1) + 1
