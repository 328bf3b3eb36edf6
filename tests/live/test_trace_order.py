"""The order in which probes of one location fire."""

import os
import subprocess
from pathlib import Path

import pytest

import insitu
from insitu.capabilities import links
from insitu.capabilities.result import no

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_GETPPID = {"x86_64": 110, "aarch64": 173}[os.uname().machine]

_ORDERED = r"""
#include <unistd.h>
/* What a macro of sys/sdt.h expands to. */
#define NOTE \
    "990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte 0\n" \
    ".asciz \"own\"\n.asciz \"point\"\n.asciz \"\"\n994: .balign 4\n.popsection\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.popsection\n"
__attribute__((noipa)) int f(int n) { asm volatile(NOTE); return n; }
int main(void) { f(1); f(2); getppid(); return 0; }
"""


@pytest.mark.parametrize("multi", [True, False], ids=["multi links", "perf events"])
def test_probes_of_one_location_fire_in_the_scripts_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multi: bool
) -> None:
    if not multi:
        monkeypatch.setattr(links, "uprobe_multi", lambda: no("not in this test"))
    (tmp_path / "it.c").write_text(_ORDERED)
    program = tmp_path / "it"
    subprocess.run(["gcc", "-O1", "-o", program, tmp_path / "it.c"], check=True)
    kinds = {
        "u": f"uprobe:{program}:f",
        "r": f"uretprobe:{program}:f",
        "s": f"usdt:{program}:own:point",
        "t": "tracepoint:syscalls:sys_enter_getppid /pid == cpid/",
        "w": f"rawtracepoint:sys_enter /pid == cpid && args.id == {_GETPPID}/",
        "p": "software:page-faults:1 /pid == cpid && !@seen[NUMBER]/",
    }
    script = "".join(
        point.replace("NUMBER", str(number)) + f' {{ @seen[{number}] = 1; print("{letter}{number}"); }}\n'
        for number in range(3)
        for letter, point in kinds.items()
    )

    def fired() -> dict[str, list[str]]:
        found = [each for each in insitu.trace(script, command=str(program)).events() if isinstance(each, str)]
        return {letter: [each for each in found if each[0] == letter] for letter in kinds}

    once = {letter: [f"{letter}{number}" for number in range(3)] for letter in kinds}
    wanted = {letter: each * (2 if letter in "urs" else 1) for letter, each in once.items()}
    # While somebody changes a BPF map, programs of events on that CPU do not run (kernel/bpf/syscall.c:
    # bpf_disable_instrumentation).
    assert any(fired() == wanted for _ in range(4))
