"""Where a probe finds registers and arguments: struct pt_regs as BPF programs see it, and each machine's C calls."""

from __future__ import annotations

import os
from typing import Final

from msgspec import Struct

from insitu.errors import InsituError

__all__ = ["COPIED_MASK", "COPIED_REGISTERS", "MACHINE", "MACHINES", "Machine", "Part"]


class Part(Struct, frozen=True):
    """A register or part of one: ``size`` bytes of pt_regs' u64 at ``offset``, shifted right by ``shift`` bits."""

    offset: int
    size: int = 8
    shift: int = 0


class Machine(Struct, frozen=True):
    """One machine's registers by name, with the aliases that assemblers write (``eax``, ``w3``).

    ``arguments`` are the names of the integer arguments' registers; later ones lie on the stack, the first of
    them ``stack_offset`` bytes above the stack pointer at a function's entry. Results of two words are in
    ``result`` and ``second_result``. ``user_mode`` says when user code was
    interrupted: the register, its bits that hold the privilege level, and that of user code.
    """

    registers: dict[str, Part]
    arguments: tuple[str, ...]
    result: str
    second_result: str
    instruction: str
    stack: str
    frame: str
    stack_offset: int
    user_mode: tuple[str, int, int]

    def register(self, name: str) -> Part | None:
        """A register by its name, or by its role: sp, ip, result. None for an unknown one."""
        roles = {"sp": self.stack, "ip": self.instruction, "result": self.result}
        return self.registers.get(roles.get(name, name))

    def argument(self, index: int) -> Part | None:
        """The register of argument ``index`` (from 0) at a function's entry; None when it lies on the stack."""
        return self.registers[self.arguments[index]] if index < len(self.arguments) else None


def _x86_64() -> Machine:
    # struct pt_regs, arch/x86/include/uapi/asm/ptrace.h, in the names of arch/x86/include/asm/ptrace.h.
    order = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss"
    registers = {name: Part(8 * index) for index, name in enumerate(order.split())}
    for name in ("ax", "bx", "cx", "dx"):
        at = registers[name].offset
        registers |= {f"r{name}": Part(at), f"e{name}": Part(at, 4), name[0] + "l": Part(at, 1)}
        registers[name[0] + "h"] = Part(at, 1, 8)
    for name in ("si", "di", "bp", "sp"):
        at = registers[name].offset
        registers |= {f"r{name}": Part(at), f"e{name}": Part(at, 4), name + "l": Part(at, 1)}
    for number in range(8, 16):
        at = registers[f"r{number}"].offset
        registers |= {f"r{number}{end}": Part(at, size) for end, size in (("d", 4), ("w", 2), ("b", 1))}
    registers["rip"] = registers["ip"]
    return Machine(registers, ("di", "si", "dx", "cx", "r8", "r9"), "ax", "dx", "ip", "sp", "bp", 8, ("cs", 3, 3))


def _aarch64() -> Machine:
    # struct user_pt_regs, arch/arm64/include/uapi/asm/ptrace.h.
    registers = {f"x{n}": Part(8 * n) for n in range(31)} | {f"r{n}": Part(8 * n) for n in range(31)}
    registers |= {f"w{n}": Part(8 * n, 4) for n in range(31)}
    registers |= {"lr": Part(240), "sp": Part(248), "pc": Part(256), "pstate": Part(264)}
    return Machine(registers, tuple(f"x{n}" for n in range(8)), "x0", "x1", "pc", "sp", "x29", 0, ("pstate", 15, 0))


MACHINES: Final = {"x86_64": _x86_64(), "aarch64": _aarch64()}


def _ours() -> Machine:
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        raise InsituError(f"scripts cannot be traced on {os.uname().machine} (supported: {', '.join(MACHINES)})")
    return machine


MACHINE: Final = _ours()
"""The machine we run on. Importing this module elsewhere raises InsituError."""

_X86_64_COPIED = "ax bx cx dx si di bp sp ip r8 r9 r10 r11 r12 r13 r14 r15"
_IS_X86_64: Final = MACHINE is MACHINES["x86_64"]
COPIED_REGISTERS: Final = (
    tuple(_X86_64_COPIED.split()) if _IS_X86_64 else (*(f"x{n}" for n in range(30)), "lr", "sp", "pc")
)
"""The registers that unwinding a stack's copy needs, in the order of their bits in ``COPIED_MASK``."""
COPIED_MASK: Final = 0xFF01FF if _IS_X86_64 else (1 << 33) - 1
"""Those registers as perf_event_attr.sample_regs_user has them (asm/perf_regs.h)."""
