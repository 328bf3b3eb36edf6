"""Registers of the machines that stacks are unwound on: perf's numbers, DWARF's numbers, and each one's part."""

from dataclasses import dataclass
from typing import Final

from insitu.errors import InsituError

__all__ = ["AARCH64", "I386", "X86_64", "Machine", "machine_called"]


@dataclass(frozen=True)
class Machine:
    """How one machine numbers its registers.

    ``dwarf_of_perf[b]`` is the DWARF number of bit b of perf_event_attr.sample_regs_user, -1 where unwinding has
    no use for it. ``e_machine`` is that of its ELF files. ``pc``, ``sp`` and ``fp`` are DWARF numbers; ``columns``
    bounds the DWARF numbers whose rules are kept (those above are vector registers and the like, which hold no
    address that unwinding needs).
    ``address_mask`` keeps the bits of a code address: aarch64's pointer authentication uses those above.
    ``word_bytes`` is the size of an address. ``compat`` is the machine as which samples with 32-bit registers
    (PERF_SAMPLE_REGS_ABI_32) are unwound; None where that is not supported.
    """

    name: str
    dwarf_of_perf: tuple[int, ...]
    e_machine: int
    pc: int
    sp: int
    fp: int
    columns: int
    address_mask: int = (1 << 64) - 1
    word_bytes: int = 8
    compat: "Machine | None" = None


I386: Final = Machine(
    "i386",
    # The first of enum perf_event_x86_regs: AX BX CX DX SI DI BP SP IP. Numbers from the System V ABI's Intel386
    # supplement, as .eh_frame has them: eax 0, ecx 1, edx 2, ebx 3, esp 4, ebp 5, esi 6, edi 7, return address 8.
    (0, 3, 1, 2, 6, 7, 5, 4, 8),
    e_machine=3,  # EM_386
    pc=8,
    sp=4,
    fp=5,
    columns=9,
    address_mask=(1 << 32) - 1,
    word_bytes=4,
)

X86_64: Final = Machine(
    "x86-64",
    # enum perf_event_x86_regs (arch/x86/include/uapi/asm/perf_regs.h): AX BX CX DX SI DI BP SP IP FLAGS CS SS DS ES
    # FS GS R8-R15; numbers from the System V ABI's AMD64 supplement, figure "DWARF register number mapping".
    (0, 3, 2, 1, 4, 5, 6, 7, 16, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15),
    e_machine=62,  # EM_X86_64
    pc=16,
    sp=7,
    fp=6,
    columns=17,
    compat=I386,
)

AARCH64: Final = Machine(
    "aarch64",
    # enum perf_event_arm_regs (arch/arm64/include/uapi/asm/perf_regs.h): X0-X29 LR SP PC; numbers from DWARF for the
    # Arm 64-bit Architecture: X0-X30 are 0-30, SP 31, PC 32.
    tuple(range(33)),
    e_machine=183,  # EM_AARCH64
    pc=32,
    sp=31,
    fp=29,
    columns=33,
    address_mask=(1 << 48) - 1,
)

_BY_NAME: Final = {"x86_64": X86_64, "aarch64": AARCH64} | dict.fromkeys(("i386", "i586", "i686"), I386)


def machine_called(name: str) -> Machine:
    """The machine that uname(2) calls ``name``. Raises InsituError if stacks of it cannot be unwound."""
    machine = _BY_NAME.get(name)
    if machine is None:
        raise InsituError(
            f"cannot unwind stacks of architecture {name or 'unknown'} (supported: x86_64, i686, aarch64)",
            remedy="record call stacks by frame pointers (--stacks fp; perf: --call-graph fp)",
        )
    return machine
