"""Registers by role, for each machine: where pt_regs keeps them, and in which arguments travel.

From arch/x86/include/asm/ptrace.h with the System V calling convention, and arch/arm64/include/asm/ptrace.h.
"""

from __future__ import annotations

import platform

__all__ = ["argument_registers", "register_offset"]

_X86_64 = dict(
    zip(
        [
            "r15",
            "r14",
            "r13",
            "r12",
            "bp",
            "bx",
            "r11",
            "r10",
            "r9",
            "r8",
            "ax",
            "cx",
            "dx",
            "si",
            "di",
            "orig_ax",
            "ip",
            "cs",
            "flags",
            "sp",
            "ss",
        ],
        range(0, 168, 8),
        strict=True,
    )
)
_ARM64 = {f"r{n}": 8 * n for n in range(31)} | {"sp": 248, "pc": 256, "pstate": 264}
_ROLES = {
    "x86_64": (_X86_64, ("di", "si", "dx", "cx", "r8", "r9"), {"result": "ax"}),
    "aarch64": (_ARM64, tuple(f"r{n}" for n in range(8)), {"result": "r0", "ip": "pc"}),
}


def _machine() -> tuple[dict[str, int], tuple[str, ...], dict[str, str]]:
    return _ROLES.get(platform.machine(), _ROLES["x86_64"])


def register_offset(name: str) -> int:
    """Byte offset in struct pt_regs of a register, or of one named by role: sp, ip, result.

    :raises KeyError: when this machine has no such register.
    """
    offsets, _, roles = _machine()
    return offsets[roles.get(name, name)]


def argument_registers() -> tuple[str, ...]:
    """Registers of a function's integer arguments, in order."""
    return _machine()[1]
