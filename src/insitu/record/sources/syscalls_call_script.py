"""The part of the scripts for system calls that says which call it is, and with which arguments."""

from __future__ import annotations

import os
from typing import Final

from insitu.syscalls.call_word import ABI_SHIFT, UNKNOWN

__all__ = ["NUMBER", "arguments", "identified"]

_X86_64: Final = os.uname().machine == "x86_64"

# Members of struct pt_regs. Read one by one: a copy of them would take a quarter of a program's stack.
_NATIVE = ("di", "si", "dx", "r10", "r8", "r9") if _X86_64 else tuple(f"regs[{n}]" for n in range(6))
NUMBER: Final = "args.regs.orig_ax" if _X86_64 else "args.regs.syscallno"
_I386 = ("bx", "cx", "dx", "si", "di", "bp")


def arguments(compat: str) -> list[str]:
    """$a0 to $a5."""
    lines = [f"$a{n} = (uint64)args.regs.{name};" for n, name in enumerate(_NATIVE)]
    if _X86_64:
        lines.append(f"if ({compat}) {{")
        lines += [f"    $a{n} = (uint64)args.regs.{name} & 0xffffffff;" for n, name in enumerate(_I386)]
        lines.append("}")
    return lines


# arch/x86/include/asm/thread_info.h: TS_COMPAT; include/uapi/asm/unistd.h: __X32_SYSCALL_BIT.
_ABI = (
    "$compat = (uint64)(curtask.thread_info.status & 2) != 0 ? (uint64)1 : (uint64)0;"
    if _X86_64
    else "$compat = (uint64)(curtask.thread_info.flags & 0x400000) != 0 ? (uint64)1 : (uint64)0;"
)


def identified(number: str = "args.id") -> list[str]:
    """$nr, $abi and $key of the call with a number, $low of its number what the key has room for."""
    lines = [f"$nr = (uint64){number};", _ABI, "$abi = $compat;"]
    if _X86_64:
        lines += [
            "if ($compat == 0 && $nr & 0x40000000 && $nr != 0xffffffffffffffff) {",
            "    $abi = (uint64)2;",
            "    $nr = $nr & ~0x40000000;",
            "}",
        ]
    return [
        *lines,
        f"$low = $nr < {UNKNOWN} ? $nr : (uint64){UNKNOWN};",
        f"$key = $abi << {ABI_SHIFT} | $low;",
    ]
