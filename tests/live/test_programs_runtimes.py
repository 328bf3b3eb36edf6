"""The programs on language run times, on processes that a test has started."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_PYTHON = "/usr/bin/python3"
_GARBAGE = """
import gc, sys
gc.disable()
class A: pass
for line in sys.stdin:
    for _ in range(100):
        a = A(); a.me = a
    del a
    print(gc.collect(1), flush=True)
"""
_JAVA = """
public class Collects {
    public static void main(String[] words) throws Exception {
        while (System.in.read() >= 0) { System.gc(); System.out.println("done"); System.out.flush(); }
    }
}
"""


def _traced(program: str, command: Sequence[str], rounds: int) -> tuple[list[str], list[list[str]]]:
    """A process that answers each of so many lines once it has collected: its answers, and the program's lines."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        print(file=process.stdin)
        process.stdout.readline()
        words = [sys.executable, "-u", "-m", "insitu", "trace", program, "-p", str(process.pid)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stdout is not None
            while "TIME" not in (line := tracer.stdout.readline()):
                assert line, tracer.communicate()[1]
            answers = []
            for _ in range(rounds):
                print(file=process.stdin)
                answers.append(process.stdout.readline().strip())
            process.stdin.close()  # it ends, and the trace with it
            text, messages = tracer.communicate()
        assert tracer.returncode == 0, messages
    return answers, [line.split() for line in text.splitlines() if re.match(r" *\d+\.\d{3} ", line)]


@pytest.mark.skipif(not Path(_PYTHON).exists(), reason="needs Debian's python3, which has USDT probes")
def test_pygc_has_each_collection_with_its_generation_and_what_it_found() -> None:
    found, lines = _traced("pygc", [_PYTHON, "-c", _GARBAGE], 5)
    # At its end the interpreter collects all generations.
    assert [line[4] for line in lines if line[2] == "1"] == found, lines
    assert all(int(each) >= 100 for each in found)


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java virtual machine")
def test_javagc_has_each_full_collection(tmp_path: Path) -> None:
    source = tmp_path / "Collects.java"
    source.write_text(_JAVA)
    answers, lines = _traced("javagc", ["java", "-XX:+UseSerialGC", str(source)], 4)
    assert answers == ["done"] * 4
    assert [line[2] for line in lines if line[2] == "full"] == ["full"] * 4, lines


_CALLS = """
import sys
def leaf(x=0): pass
def caller():
    for _ in range(10): leaf()
    list(map(leaf, range(7)))
    for error in (ValueError, KeyError, ValueError):
        try: raise error
        except Exception: pass
for line in sys.stdin:
    caller()
    print("done", flush=True)
"""


def _counted(program: str, name: str, command: Sequence[str]) -> dict[str, int]:
    """What a program's map has, of a process that answers each of three lines."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        print(file=process.stdin)
        process.stdout.readline()
        words = [sys.executable, "-u", "-m", "insitu", "trace", "--json", program, "-p", str(process.pid)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tracer:
            assert tracer.stdout is not None
            while "attached_probes" not in (line := tracer.stdout.readline()):
                assert line
            for _ in range(3):
                print(file=process.stdin)
                process.stdout.readline()
            process.stdin.close()
            lines = [json.loads(line) for line in tracer.communicate()[0].splitlines() if line.strip()]
    return next(each["data"][name] for each in lines if each["type"] == "map" and name in each["data"])


@pytest.mark.skipif(not Path(_PYTHON).exists(), reason="needs Debian's python3, which has USDT probes")
def test_pycalls_counts_the_calls_of_each_function() -> None:
    found = {
        key.split(",")[1]: count for key, count in _counted("pycalls", "@calls", [_PYTHON, "-c", _CALLS]).items()
    }
    assert (found["leaf"], found["caller"]) == (3 * 17, 3)


@pytest.mark.parametrize("python", [_PYTHON, sys.executable])
def test_pyexceptions_counts_the_exceptions_of_each_type(python: str) -> None:
    if not Path(python).exists():
        pytest.skip("needs Debian's python3")
    found = {
        key.split(",")[1]: n for key, n in _counted("pyexceptions", "@exceptions", [python, "-c", _CALLS]).items()
    }
    assert (found["ValueError"], found["KeyError"]) == (6, 3)


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java virtual machine")
def test_javacalls_counts_the_calls_of_each_method(tmp_path: Path) -> None:
    source = tmp_path / "Calls.java"
    source.write_text(
        _JAVA.replace("Collects", "Calls")
        .replace("System.gc();", "for (int i = 0; i < 7; i++) leaf();")
        .replace("public static void main", "static void leaf() {} public static void main")
    )
    command = ["java", "-Xint", "-XX:+ExtendedDTraceProbes", str(source)]
    found = _counted("javacalls", "@calls", command)
    assert found["Calls,leaf"] == 3 * 7


# What the macro DTRACE_PROBE of sys/sdt.h expands to.
_NODE = r"""
#include <stdio.h>
#define PROBE(NAME, VALUE) asm volatile( \
    "990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte 0\n" \
    ".asciz \"node\"\n.asciz \"" NAME "\"\n.asciz \"-4@%0 -4@$0\"\n994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.popsection\n.endif\n" :: "r" (VALUE))
__attribute__((noipa)) void start(int type) { PROBE("gc__start", type); }
__attribute__((noipa)) void done(int type) { PROBE("gc__done", type); }
int main(void)
{
    for (int type = 1, c; (c = getchar()) != EOF; type = 5 - type) {
        start(type);
        done(type);
        puts("done");
        fflush(stdout);
    }
}
"""


def test_nodegc_has_each_collection_of_a_program_with_nodes_probes(tmp_path: Path) -> None:
    (tmp_path / "node.c").write_text(_NODE)
    subprocess.run(["gcc", "-O1", "-o", tmp_path / "node", tmp_path / "node.c"], check=True)
    _, lines = _traced("nodegc", [str(tmp_path / "node")], 4)
    assert [line[2] for line in lines] == ["mark-sweep", "scavenge"] * 2


@pytest.mark.parametrize(
    ("program", "provider"), [("nodegc", "node"), ("javacalls", "hotspot"), ("pycalls", "python")]
)
def test_a_process_without_a_run_times_probes_is_refused_in_one_line(program: str, provider: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        words = [sys.executable, "-m", "insitu", "trace", program, "-p", str(process.pid)]
        done = subprocess.run(words, capture_output=True, text=True)
        process.kill()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{program}: process {process.pid} has no USDT probes of provider {provider}" in done.stderr
