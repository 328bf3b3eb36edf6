"""The report's figures against perf report's on the same perf.data, and folded stacks against perf script's."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from insitu.convert.formats.folded import folded_counts
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.open import load_stacks
from insitu.views.report import build_report

pytestmark = pytest.mark.skipif(
    not (shutil.which("perf") and shutil.which("gcc")), reason="perf and gcc are needed for the comparison"
)

_SOURCE = r"""
volatile unsigned long sink;
#define NOINLINE __attribute__((noinline))
NOINLINE void burn(unsigned long n) { for (unsigned long i = 0; i < n; i++) { sink += i * i; } }
NOINLINE void sixty(unsigned long n) { burn(n * 6); sink++; }
NOINLINE void thirty(unsigned long n) { burn(n * 3); sink++; }
NOINLINE void recurse(int depth, unsigned long n) { if (depth) recurse(depth - 1, n); else burn(n); sink++; }
int main(void) { for (int i = 0; i < 60; i++) { sixty(200000); thirty(200000); recurse(5, 200000); } return 0; }
"""


@pytest.fixture(scope="module")
def perf_data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    (directory / "prog.c").write_text(_SOURCE)
    flags = ["-O0", "-fno-omit-frame-pointer"]
    subprocess.run(["gcc", *flags, "-o", "prog", "prog.c"], cwd=directory, check=True)
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-g", "-o", "perf.data", "--", "./prog"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"perf record of cpu-clock: {done.stderr.strip()}")
    return directory / "perf.data"


def _perf(*words: str) -> str:
    return subprocess.run(["perf", *words], capture_output=True, text=True, check=True).stdout


def test_self_and_total_of_every_function_are_those_of_perf_report(perf_data):
    fields = ["-F", "overhead_children,overhead,sym", "-g", "none", "--percent-limit", "0", "-t", ";"]
    peer: Counter[tuple[str, str]] = Counter()
    for line in _perf("report", "-i", str(perf_data), "--stdio", "--children", *fields).splitlines():
        if line and not line.startswith("#"):
            total, own, symbol = (cell.strip() for cell in line.split(";"))
            name = symbol.split("] ", 1)[1]
            peer[name, "total"] += round(float(total[:-1]) * 100)
            peer[name, "self"] += round(float(own[:-1]) * 100)
    report = build_report(load_stacks(perf_data, options=ImportOptions(as_perf=True)))
    assert report.samples > 300
    named = {row.function: row for row in report.functions if (row.function, "self") in peer}
    assert {"main", "burn", "sixty", "thirty", "recurse"} <= set(named)
    for name, row in named.items():
        assert 10_000 * row.own / report.total == pytest.approx(peer[name, "self"], abs=1)
        assert 10_000 * row.total / report.total == pytest.approx(peer[name, "total"], abs=1)


def test_folded_stacks_are_those_of_perf_script(perf_data):
    peer: Counter[str] = Counter()
    for block in _perf("script", "-i", str(perf_data), "-F", "comm,ip,sym,dso").split("\n\n"):
        comm, *lines = [line for line in block.splitlines() if line.strip()] or [""]
        names = []
        for line in lines:
            name, module = line.split(None, 1)[1].rsplit(" (", 1)
            file = module.rstrip(")").rpartition("/")[2].strip("[]")
            names.append(f"[{file}]" if name == "[unknown]" else name)
        if comm:
            peer[";".join([comm.strip().replace(" ", "_"), *reversed(names)])] += 1
    ours = Counter(folded_counts(load_stacks(perf_data, options=ImportOptions(as_perf=True))))
    assert ours.total() == peer.total()
    in_program = {stack for stack in peer if ";main;" in stack}
    assert in_program
    assert {stack: ours[stack] for stack in in_program} == {stack: peer[stack] for stack in in_program}
