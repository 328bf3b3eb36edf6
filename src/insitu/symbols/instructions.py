"""Machine instructions, found by disassembling: where they begin, what they call, what memory they access."""

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

__all__ = ["MemoryAccess", "begins_instruction", "call_targets", "is_canonical", "memory_access"]

# Registers in the order of enum perf_event_x86_regs, without the flags and segments.
_SAMPLED_NAMES: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip"),
    *(f"r{number}" for number in range(8, 16)),
)
_SAMPLED_IP: Final = 8

# Calls, and jumps: out of a function these are calls too, the last thing that it does.
_CALLS = {"x86_64": ("call", "jmp"), "aarch64": ("bl", "b")}


def begins_instruction(code: bytes, offset: int) -> bool:
    """Whether an instruction of ``code``, whose first byte begins one, begins at ``offset``.

    True where that is unknown: beyond what can be decoded, and on a machine without a decoder.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        return True
    for at, size, _, _ in _disassembled(code, 0, machine):
        if at == offset:
            return True
        if at < offset < at + size:
            return False
    return True


def call_targets(code: bytes, address: int, machine: str) -> tuple[list[int], bool]:
    """The addresses that ``code``, which is at ``address``, calls directly, in order, with those outside that it
    jumps to; and whether it calls what a register or memory says.

    Nothing is found for a machine without a decoder: "x86_64" and "aarch64" have one.
    """
    indirect = False
    found: dict[int, None] = {}
    for _, _, name, operand in _disassembled(code, address, machine) if machine in _CALLS else ():
        text = operand.removeprefix("#")
        if name not in _CALLS[machine]:
            indirect |= name == "blr"
        elif not text.startswith("0x"):
            indirect |= name == "call"  # jumps of that kind are switch statements too
        elif not address <= (target := int(text, 16)) < address + len(code):
            found[target] = None
    return list(found), indirect


def _disassembled(code: bytes, address: int, machine: str) -> Iterator[tuple[int, int, str, str]]:
    """Address, size, name and operands of each instruction."""
    import capstone

    machines = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    yield from capstone.Cs(*machines[machine]).disasm_lite(code, address)


class MemoryAccess(NamedTuple):
    """An instruction as text, and the address and size in bytes of its operand in memory that was accessed."""

    text: str
    address: int | None
    size: int
    writes: bool = False
    """Whether that operand is written."""


def is_canonical(address: int) -> bool:
    """Whether x86-64 processors with four levels of page tables take it for an address: bits 47 to 63 are equal."""
    return address < 1 << 47 or (1 << 64) - (1 << 47) <= address < 1 << 64


def memory_access(code: bytes, registers: Sequence[int], fault_address: int | None) -> MemoryAccess | None:
    """What the x86-64 instruction that ``code`` begins with accesses, with these registers (ptrace.SAMPLED_MASK's).

    Of several operands that which ``fault_address`` is in, or with None that whose address is not canonical: the
    processor does not say where such an access goes. Its address is None where none is; None if the instruction
    cannot be decoded.
    """
    import capstone
    from capstone import x86

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    found = next(decoder.disasm(code, registers[_SAMPLED_IP], 1), None)
    if found is None:
        return None
    text = f"{found.mnemonic} {found.op_str}".strip()
    for operand in found.operands:
        if operand.type != x86.X86_OP_MEM or operand.mem.segment in (x86.X86_REG_FS, x86.X86_REG_GS):
            continue
        address = operand.mem.disp
        for number, scale in ((operand.mem.base, 1), (operand.mem.index, operand.mem.scale)):
            name = found.reg_name(number) or ""
            if name == "rip":
                address += found.address + found.size
            elif name in _SAMPLED_NAMES:
                address += registers[_SAMPLED_NAMES.index(name)] * scale
        address %= 1 << 64
        if fault_address is None:
            accessed = not is_canonical(address)
        else:
            accessed = address <= fault_address < address + max(operand.size, 1)
        if accessed:
            return MemoryAccess(text, address, operand.size, bool(operand.access & capstone.CS_AC_WRITE))
    pushes = found.group(x86.X86_GRP_CALL) or found.mnemonic.startswith("push")
    return MemoryAccess(text, None, 8 if pushes else max((each.size for each in found.operands), default=0))
