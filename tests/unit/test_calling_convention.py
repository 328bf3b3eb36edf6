"""Register tables against the C header's struct pt_regs."""

import subprocess
from pathlib import Path

import pytest

from insitu.kernel.calling_convention import MACHINES

# Our names and, where they differ, the header's.
_X86 = """
r15 r14 r13 r12 bp:rbp bx:rbx r11 r10 r9 r8 ax:rax cx:rcx dx:rdx si:rsi di:rdi orig_ax:orig_rax ip:rip cs
flags:eflags sp:rsp ss
"""


def test_x86_registers_lie_where_the_header_says(tmp_path: Path) -> None:
    if not Path("/usr/include/x86_64-linux-gnu/asm/ptrace.h").exists():
        pytest.skip("the x86-64 kernel headers are not installed")
    checks = []
    for name in _X86.split():
        ours, _, theirs = name.partition(":")
        offset = MACHINES["x86_64"].registers[ours].offset
        checks.append(f'_Static_assert(offsetof(struct pt_regs, {theirs or ours}) == {offset}, "{ours}");')
    (tmp_path / "regs.c").write_text("#include <stddef.h>\n#include <asm/ptrace.h>\n" + "\n".join(checks))
    subprocess.run(["gcc", "-fsyntax-only", "regs.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("name", "size", "shift"), [("eax", 4, 0), ("ah", 1, 8), ("dil", 1, 0), ("r8d", 4, 0), ("r15w", 2, 0)]
)
def test_parts_of_x86_registers_lie_in_the_whole(name: str, size: int, shift: int) -> None:
    whole = {"eax": "ax", "ah": "ax", "dil": "di", "r8d": "r8", "r15w": "r15"}[name]
    registers = MACHINES["x86_64"].registers
    assert (registers[name].offset, registers[name].size, registers[name].shift) == (
        registers[whole].offset,
        size,
        shift,
    )


def test_arguments_beyond_the_registers_are_on_the_stack() -> None:
    assert MACHINES["x86_64"].argument(5) == MACHINES["x86_64"].registers["r9"]
    assert MACHINES["x86_64"].argument(6) is None
    assert MACHINES["aarch64"].argument(7) == MACHINES["aarch64"].registers["x7"]
