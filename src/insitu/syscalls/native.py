"""Names and numbers of this machine's own system calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from insitu.syscalls.facts import CallFacts, facts_of

__all__ = ["syscall_abi", "syscall_name", "syscall_numbers"]

# The machines that have the numbers of include/uapi/asm-generic/unistd.h share a table.
_ABIS: Final = {"x86_64": "x86_64"} | dict.fromkeys(("aarch64", "riscv64", "loongarch64"), "aarch64")
_NARROW_ABIS: Final = {"x86_64": "i386"}


def syscall_numbers() -> Mapping[str, int]:
    """Returns the numbers of this machine's system calls by name; none of a machine that is not known."""
    return {call.name: number for number, call in _calls().items()}


def syscall_name(number: int, *, narrow: bool = False) -> str:
    """Returns the name of a system call of this machine; "[unknown: NUMBER]" if it is not known.

    ``narrow``: of its 32-bit programs, which have other numbers.
    """
    call = _calls(narrow=narrow).get(number)
    return call.name if call else f"[unknown: {number}]"


def syscall_abi(*, narrow: bool = False) -> str | None:
    """Returns the name of the table of this machine's system calls; None of a machine that is not known."""
    return (_NARROW_ABIS if narrow else _ABIS).get(os.uname().machine)


def _calls(*, narrow: bool = False) -> Mapping[int, CallFacts]:
    abi = syscall_abi(narrow=narrow)
    return facts_of(abi).calls if abi else {}
