"""Machine instructions, found by disassembling: where they begin, and what they call."""

import os
from collections.abc import Iterator

__all__ = ["begins_instruction", "call_targets"]

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
