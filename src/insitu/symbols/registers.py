"""Registers of the machines that stacks are unwound on: perf's numbers, DWARF's numbers, and each one's part."""

from dataclasses import dataclass
from typing import Final

__all__ = ["AARCH64", "MACHINES", "X86_64", "Machine"]


@dataclass(frozen=True)
class Machine:
    """How one machine numbers its registers.

    ``dwarf_of_perf[b]`` is the DWARF number of bit b of perf_event_attr.sample_regs_user, -1 where unwinding has
    no use for it. ``pc``, ``sp`` and ``fp`` are DWARF numbers; ``columns`` bounds the DWARF numbers whose rules
    are kept (those above are vector registers and the like, which hold no address that unwinding needs).
    ``address_mask`` keeps the bits of a code address: aarch64's pointer authentication uses those above.
    """

    name: str
    dwarf_of_perf: tuple[int, ...]
    pc: int
    sp: int
    fp: int
    columns: int
    address_mask: int = (1 << 64) - 1


X86_64: Final = Machine(
    "x86-64",
    # enum perf_event_x86_regs (arch/x86/include/uapi/asm/perf_regs.h): AX BX CX DX SI DI BP SP IP FLAGS CS SS DS ES
    # FS GS R8-R15; numbers from the System V ABI's AMD64 supplement, figure "DWARF register number mapping".
    (0, 3, 2, 1, 4, 5, 6, 7, 16, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15),
    pc=16,
    sp=7,
    fp=6,
    columns=17,
)

AARCH64: Final = Machine(
    "aarch64",
    # enum perf_event_arm_regs (arch/arm64/include/uapi/asm/perf_regs.h): X0-X29 LR SP PC; numbers from DWARF for the
    # Arm 64-bit Architecture: X0-X30 are 0-30, SP 31, PC 32.
    tuple(range(33)),
    pc=32,
    sp=31,
    fp=29,
    columns=33,
    address_mask=(1 << 48) - 1,
)

MACHINES: Final = {62: X86_64, 183: AARCH64}
"""Machine by e_machine of its ELF files (EM_X86_64, EM_AARCH64 of elf.h)."""
