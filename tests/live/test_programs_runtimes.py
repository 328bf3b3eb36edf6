"""The programs on language run times, on processes that a test has started."""

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
