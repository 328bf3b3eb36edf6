"""Instructions of BPF, classic and extended: the code and what is around it (include/uapi/linux/bpf.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, hexadecimal
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text

__all__ = ["MOST_INSTRUCTIONS", "code_text", "extended_instruction", "instructions"]

MOST_INSTRUCTIONS: Final = 4096
"""BPF_MAXINSNS: more are not shown."""
_UNKNOWN: Final = "BPF_???"
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)


def code_text(argument: Argument, code: int, *, extended: bool) -> str:
    """Returns ``BPF_ALU|BPF_K|BPF_AND``: of eBPF where ``extended``, else of classic BPF."""
    kind = code & 7
    if extended:
        kind = {_RET: _JMP, _MISC: _ALU}.get(kind, kind)  # JMP32, ALU64

    def word(name: str, mask: int) -> str:
        return enum_text(argument, name, code & mask, _UNKNOWN)

    words = [word("ebpf_class" if extended else "bpf_class", 7)]
    rest = 0  # strace(1) shows it of some classes only
    if kind in (_LD, _LDX) or (extended and kind in (_ST, _STX)):
        words += [word("bpf_size", 0x18), word("ebpf_mode" if extended else "bpf_mode", 0xE0)]
    elif kind in (_ST, _STX):
        rest = code & ~7
    elif kind in (_ALU, _JMP):
        words += [word("bpf_source", 8), word("bpf_alu" if kind == _ALU else "bpf_jump", 0xF0)]
    elif kind == _RET:
        words.append(word("bpf_return", 0x18))
        rest = code & ~0x1F
    else:
        words.append(word("bpf_misc", 0xF8))
        rest = code & ~0xFF
    return "|".join([*words, f"{rest:#x} /* {_UNKNOWN} */"] if rest else words)


def instructions(argument: Argument, address: int, count: int, one: Callable[[Argument, bytes], str]) -> str:
    """Returns ``[one, ...]`` of ``count`` instructions of eight bytes each; the address without -v."""
    if not address or not argument.options.verbose:
        return hexadecimal(address)
    words: list[str] = []
    for index in range(count):
        if index >= MOST_INSTRUCTIONS:
            words.append("...")
            break
        at = argument.at(address + 8 * index)
        data = at.read(8)
        if data is None:
            if not words:
                return hexadecimal(address)
            words.append(f"... /* {hexadecimal(at.value)} */")
            break
        words.append(one(argument, data))
    return f"[{', '.join(words)}]"


def extended_instruction(argument: Argument, data: bytes) -> str:
    """Returns a struct bpf_insn: ``{code=BPF_ALU64|BPF_K|BPF_MOV, dst_reg=BPF_REG_0, ...}``."""
    target, source = (enum_text(argument, "bpf_register", number) for number in (data[1] & 15, data[1] >> 4))
    offset = int.from_bytes(data[2:4], "little", signed=True)
    immediate = hex_or_0(int.from_bytes(data[4:8], "little"))
    code = code_text(argument, data[0], extended=True)
    return f"{{code={code}, dst_reg={target}, src_reg={source}, off={offset}, imm={immediate}}}"
