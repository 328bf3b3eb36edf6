"""Static probes of a program in scripts: which operands they read, and how they are named."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import insitu

from .counting import SOURCE

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_NOTE = SOURCE[SOURCE.index("#define NOTE") : SOURCE.index("static void *sleeper")]
_MANY = " ".join(f"4@${n}" for n in range(100, 114))
_MAIN = f"""
#include <stdio.h>
int main(void)
{{
    int here = 30;
    asm volatile(NOTE("spread", "0", "-4@%%edi 8@$1") :: "D"(10), "m"(here));
    asm volatile(NOTE("spread", "0", "4@%%esi 8@$2") :: "S"(20), "m"(here));
    asm volatile(NOTE("spread", "0", "-4@(%%rdi) 8@$3") :: "D"(&here), "m"(here));
    asm volatile(NOTE("spread", "0", "1@$-16 8@$4") ::);
    asm volatile(NOTE("cut", "0", "1@$-16 -1@$240 2@$-1 -2@$65535 4@$-2 -4@$0xfffffffe 8@$-3 -8@$-3") ::);
    asm volatile(NOTE("many", "0", "{_MANY}") ::);
    puts("ready");
    fflush(stdout);
    getchar();
    asm volatile(NOTE("late", "0", "4@$5") ::);
}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("static")
    (directory / "static.c").write_text(_NOTE + _MAIN)
    subprocess.run(["gcc", "-O1", "-o", directory / "static", directory / "static.c"], check=True)
    return directory / "static"


@pytest.fixture
def waiting(program: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, running and about to come to its last probe when it is sent a line."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def _printed(program: Path, script: str) -> list[str]:
    with insitu.trace(script, command=f"sh -c 'exec {program} < /dev/null > /dev/null'") as trace:
        trace.wait()
        return trace.text.splitlines()


@pytest.mark.parametrize("name", ["arg0", "args.arg0"])
@pytest.mark.parametrize("points", ["usdt:{0}:demo:spread", "usdt:{0}:spread, usdt:{0}:none*", "usdt:{0}:*:s*"])
def test_each_location_reads_its_own_operands(program: Path, points: str, name: str) -> None:
    script = f'{points.format(program)} {{ printf("%d %d\\n", {name}, {name.replace("0", "1")}); }}'
    assert _printed(program, script) == ["10 1", "20 2", "30 3", "240 4"]


def test_constants_have_the_size_and_sign_of_their_operand(program: Path) -> None:
    names = ", ".join(f"arg{n}" for n in range(8))
    script = f'usdt:{program}:cut {{ printf("{"%d " * 6}%llu %d", {names}); }}'
    assert _printed(program, script) == [f"240 -16 65535 -1 {2**32 - 2} -2 {2**64 - 3} -3"]


def test_a_probe_may_have_more_operands_than_ten(program: Path) -> None:
    script = f'usdt:{program}:many {{ printf("%d %d %d", arg0, arg10, args.arg13); }}'
    assert _printed(program, script) == ["100 110 113"]


@pytest.mark.parametrize("point", ["usdt:{0}::late", "usdt:{1}*::l*", "usdt:{1}*:demo:late"])
def test_providers_may_be_left_out_and_files_be_patterns(
    program: Path, waiting: subprocess.Popen[str], point: str
) -> None:
    point = point.format(program, str(program)[:-2])
    with insitu.trace(f'{point} {{ printf("%d", arg0); exit(); }}', pid=waiting.pid) as trace:
        waiting.communicate("\n")
        trace.wait()
        assert trace.text == "5"


@pytest.mark.parametrize("point", ["usdt::demo:late", "usdt:::late", "usdt:*:late"])
def test_without_a_path_a_probe_is_looked_for_in_all_files_of_the_process(
    program: Path, waiting: subprocess.Popen[str], point: str
) -> None:
    with insitu.trace(f'{point} {{ printf("%s %d", probe, arg0); exit(); }}', pid=waiting.pid) as trace:
        waiting.communicate("\n")
        trace.wait()
        assert trace.text == f"usdt:{program}:demo:late 5"
