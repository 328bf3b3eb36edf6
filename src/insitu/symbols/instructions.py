"""Where machine instructions begin, found by disassembling."""

import os

__all__ = ["begins_instruction"]


def begins_instruction(code: bytes, offset: int) -> bool:
    """Whether an instruction of ``code``, whose first byte begins one, begins at ``offset``.

    True where that is unknown: beyond what can be decoded, and on a machine without a decoder.
    """
    import capstone

    machines = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    if os.uname().machine not in machines:
        return True
    for at, size, _, _ in capstone.Cs(*machines[os.uname().machine]).disasm_lite(code, 0):
        if at == offset:
            return True
        if at < offset < at + size:
            return False
    return True
