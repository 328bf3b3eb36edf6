"""insitu import of valgrind's XML: the sums are those of the summary that valgrind prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import insitu

_PROGRAMS = Path(__file__).parent / "leak_programs"
_SUMS = """
    select class, sum(bytes)::bigint, sum(blocks)::bigint from memcheck_leak group by class
    having sum(blocks) > 0"""


@pytest.mark.parametrize(
    "case", ["list_cut", "tree_by_inside", "array_emptied", "five_threads", "lost_sizes", "nothing"]
)
def test_the_sums_of_each_class_are_valgrinds(tmp_path: Path, case: str) -> None:
    program = tmp_path / "cases"
    flags = ["-g", "-O0", "-w", "-fno-builtin", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, _PROGRAMS / "cases.c"], check=True)
    options = ["--leak-check=full", "--show-leak-kinds=all", "--run-libc-freeres=no"]
    printed = subprocess.run(["valgrind", *options, program, case], capture_output=True, text=True, check=True).stderr
    rows = re.findall(r"(\w+ lost|still reachable): ([\d,]+) bytes in ([\d,]+) blocks", printed)
    expected = {kind: (int(size.replace(",", "")), int(blocks.replace(",", ""))) for kind, size, blocks in rows}
    xml = tmp_path / "memcheck.xml"
    words = [*options, "--xml=yes", f"--xml-file={xml}", str(program), case]
    subprocess.run(["valgrind", *words], capture_output=True, check=True)
    command = [sys.executable, "-m", "insitu", "import", str(xml), "-o", str(tmp_path / "run.insitu")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with insitu.open(tmp_path / "run.insitu") as session:
        found = {kind: (size, blocks) for kind, size, blocks in session.sql(_SUMS).rows()}
        stacks = session.stacks() if found else None
    assert found == {kind: sums for kind, sums in expected.items() if sums[1]}
    assert re.search(r"\d leak records?, 0 errors, 0 lost", done.stderr)
    assert stacks is None or any(frame.function == case for frame in stacks.frames)
