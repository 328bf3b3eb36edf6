"""How to step over CPython's perf trampolines, the code through which 3.12 and newer call each function (-X perf).

They are copies of _Py_trampoline_func_start (CPython's Python/asm_trampoline.S) without call frame information. There
are two on x86-64: "sub $8, %rsp; call", and in 3.14 and newer "push %rbp; mov %rsp, %rbp; call". Both have 16 bytes
between the stack pointer after the call and the caller's; the second has its caller's rbp where rbp points to then.
"""

from typing import Final

from insitu.symbols.cfi import AT_OFFSET, VALUE_EXPRESSION, Row

__all__ = ["TRAMPOLINES"]

# x86-64: rbp + (rbp == rsp) * (*rsp - rbp). DWARF 5, 2.5.1: breg6, breg6, breg7, eq, breg7, deref, breg6, minus, mul,
# plus.
_SAVED_RBP: Final = bytes.fromhex("7600 7600 7700 29 7700 06 7600 1c 1e 22")
_RBP, _RSP, _RA = 6, 7, 16
_X29, _X30, _SP = 29, 30, 31

TRAMPOLINES: Final = {
    "x86-64": Row((_RSP, 16), ((_RBP, VALUE_EXPRESSION, _SAVED_RBP), (_RA, AT_OFFSET, -8)), _RA),
    # stp x29, x30, [sp, -16]!; mov x29, sp; blr x3
    "aarch64": Row((_SP, 16), ((_X29, AT_OFFSET, -16), (_X30, AT_OFFSET, -8)), _X30),
}
"""By the machine's name, the row of a trampoline that has called."""
