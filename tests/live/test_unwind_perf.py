"""Unwound stacks of real programs, frame by frame against perf script on the same perf.data."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests.interpreters import interpreters

from insitu.convert.formats.perf_data import read_perf_data
from insitu.convert.formats.perf_records import SampleDecoder
from insitu.convert.perf import side_records_of
from insitu.convert.processes import replay
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import Unwinder, UserStacks
from insitu.symbols.vdso import VDSO, read_vdso

C_SOURCE = r"""
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
volatile unsigned long sink;
__attribute__((noinline)) void burn(int n) { for (int i = 0; i < n; i++) sink += i * i; }
__attribute__((noinline)) void in_handler(void) { burn(200000); sink++; }
static void handler(int signal) { in_handler(); sink += signal; }
__attribute__((noinline)) int vla(int n) {
    char a[n]; memset(a, n, n); burn(2000);
    char *b = alloca(n * 2); memset(b, 1, n * 2); burn(3000);
    return a[n / 2] + b[n];
}
__attribute__((noinline)) int aligned(int n) {
    char v[64] __attribute__((aligned(64))); memset(v, n, 64);
    char *b = alloca(n); memset(b, 2, n); burn(2000);
    return v[n & 63] + vla(n) + b[1];
}
static int order(const void *a, const void *b) { burn(20); return *(int *)a - *(int *)b; }
__attribute__((noinline)) int deep(int n) {
    if (!n) return aligned(100);
    int r = deep(n - 1);
    sink += r;
    return r + 1;
}
static void *worker(void *unused) {
    for (int i = 0; i < 1500; i++) {
        int a[100];
        for (int j = 0; j < 100; j++) a[j] = rand() % 1000;
        qsort(a, 100, sizeof(int), order);
        deep(i % 40);
    }
    return unused;
}
int main(void) {
    struct sigaction action = {0};
    action.sa_handler = handler;
    sigaction(SIGPROF, &action, 0);
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_PROF, &timer, 0);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, worker, 0);
    worker(0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
}
"""

CXX_SOURCE = r"""
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>
struct Held { std::string text = std::string(40, 'a'); ~Held() { text.clear(); } };
__attribute__((noinline)) int thrower(int n) {
    Held held; if (!n) throw std::runtime_error("x"); return thrower(n - 1) + held.text.size();
}
__attribute__((noinline)) int catcher(int n) {
    try { return thrower(n); } catch (std::exception &e) { return e.what()[0]; }
}
int main() {
    long sum = 0;
    for (int i = 0; i < 30000; i++) {
        sum += catcher(i % 20);
        if (i % 10) continue;
        std::vector<int> v(1000);
        for (auto &x : v) x = rand();
        std::sort(v.begin(), v.end(), [](int a, int b) { return a < b; });
        sum += v[500];
    }
    std::_Exit(sum & 1);
}
"""

COPY_BYTES = 16384

CLOCK_SOURCE = r"""
#include <time.h>
__attribute__((noinline)) long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_nsec; }
int main(void) { long s = 0; for (int i = 0; i < 8000000; i++) s += now(); return s == 1; }
"""

JIT_SOURCE = """
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) }
const end = Date.now() + 700;
while (Date.now() < end) { fib(22); JSON.parse(JSON.stringify([...Array(1000).keys()])) }
"""

PYTHON_SOURCE = r"""
import json, re
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def nested(d): return nested(d - 1) if d else sorted(range(3000), key=lambda v: fib(v % 4) - v)
for _ in range(200):
    nested(20); fib(14)
    text = json.dumps({str(i): [i] * 5 for i in range(300)}); json.loads(text); re.sub(r"\d+", "x", text)
"""


def opened(module: Module) -> Elf | None:
    if module.path == VDSO:
        return read_vdso(compat=module.compat)
    return Elf(module.path) if module.path.startswith("/") and not module.path.startswith("//") else None


class Sample(NamedTuple):
    """One sample: bytes of its stack copy, addresses as perf looks them up, and their places in their files."""

    ts_ns: int
    copied: int
    addresses: list[int]
    places: list[int]
    modules: list[Module]


def unwound(path: Path, frame_pointers: bool = False) -> list[Sample]:
    """All samples of a perf.data file, by time."""
    recording = read_perf_data(path)
    windows = [window for stream in recording.streams for window in stream]
    processes = replay(side_records_of(recording), recording.build_ids)
    spaces = processes.spaces
    unwinder = Unwinder(spaces, opened, frame_pointers=frame_pointers)
    samples = []
    decoder = SampleDecoder(recording.attrs)
    for window in windows:
        for batch in decoder.batches(window):
            rows = np.flatnonzero(batch.regs_at >= 0)
            epoch = processes.epochs(batch.pid, batch.ts_ns)[rows]
            registers = batch.words[batch.regs_at[rows][:, None] + np.arange(batch.regs_mask.bit_count())]
            memory = batch.words.view(np.uint8)
            copied = batch.stack_size[rows]
            abi = batch.words[batch.regs_at[rows] - 1]
            stacks = UserStacks(registers, batch.regs_mask, memory, batch.stack_at[rows], copied, epoch, abi)
            offsets, frames = unwinder.unwind(stacks)
            for i, ts_ns in enumerate(batch.ts_ns[rows].tolist()):
                mine = frames[offsets[i] : offsets[i + 1]].copy()
                mine[1:] -= np.uint64(1)
                found, places = spaces.find(int(epoch[i]), mine)
                modules = [spaces.modules[index] if index >= 0 else Module("") for index in found.tolist()]
                samples.append(Sample(ts_ns, int(copied[i]), mine.tolist(), places.tolist(), modules))
    return sorted(samples)


def perf_frames(path: Path) -> list[list[int]]:
    """User frames of each sample, by time, as perf script prints them.

    Left out is what perf makes of a return address of 0, or of one beyond the end of the copy.
    """
    command = ["perf", "script", "--no-inline", "-F", "time,ip", "--ns", "-i", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    samples = []
    for block in text.split("\n\n"):
        lines = block.split()
        if lines:
            addresses = [int(word, 16) for word in lines[1:]]
            samples.append([address for address in addresses if address < 1 << 63])
    return samples


def compare(path: Path, at_least: int) -> list[Sample]:
    ours, theirs = unwound(path), perf_frames(path)
    assert len(ours) == len(theirs) >= at_least
    # perf prints a frame's offset in its file; its address where there is no file.
    different = [
        (sample, perf)
        for sample, perf in zip(ours, theirs, strict=True)
        if len(sample.places) != len(perf)
        or any(frame not in either for frame, either in zip(perf, zip(*sample[2:4], strict=True), strict=True))
    ]
    # Now and then libunwind takes an instruction's row from its cache for the row before: where perf left all files
    # and our stack goes on in them to its end, perf was wrong.
    lost = [perf[-1] >= 1 << 32 and all(module.path for module in sample.modules) for sample, perf in different]
    assert all(lost) and len(lost) <= len(ours) // 100, (
        f"{len(different)} of {len(ours)} samples differ; the first: {different[0][0].places}, {different[0][1]}"
    )
    return ours


def recorded(tmp_path: Path, *command: str, hertz: int = 1999, copy_bytes: int = COPY_BYTES) -> Path:
    output = tmp_path / "perf.data"
    options = ["-q", "-F", str(hertz), "-e", "cpu-clock:u", "--call-graph", f"dwarf,{copy_bytes}"]
    subprocess.run(["perf", "record", *options, "-o", str(output), "--", *command], check=True, capture_output=True)
    return output


def test_handlers_threads_alloca_and_callbacks_unwind_as_in_perf(tmp_path: Path) -> None:
    (tmp_path / "prog.c").write_text(C_SOURCE)
    options = ["-O2", "-fomit-frame-pointer", "-pthread"]
    subprocess.run(["gcc", *options, "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    samples = compare(recorded(tmp_path, str(tmp_path / "prog")), 100)
    assert max(len(sample.addresses) for sample in samples) > 40


def test_cxx_exceptions_in_flight_unwind_as_in_perf(tmp_path: Path) -> None:
    (tmp_path / "prog.cc").write_text(CXX_SOURCE)
    subprocess.run(["g++", "-O2", "prog.cc", "-o", "prog"], check=True, cwd=tmp_path)
    compare(recorded(tmp_path, str(tmp_path / "prog")), 300)


def test_lazily_bound_calls_unwind_as_in_perf(tmp_path: Path) -> None:
    (tmp_path / "prog.c").write_text(
        "#include <stdlib.h>\n"
        "int main(void) { long s = 0; for (long i = 0; i < 60000000; i++) s += abs(i) + labs(i); return s & 1; }"
    )
    options = ["-O1", "-fno-builtin", "-Wl,-z,lazy", "-fcf-protection=none"]
    subprocess.run(["gcc", *options, "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    samples = compare(recorded(tmp_path, str(tmp_path / "prog")), 100)
    plt = Elf(tmp_path / "prog").section(".plt")
    assert plt
    assert any(plt.offset <= sample.places[0] < plt.offset + plt.size for sample in samples)


def test_python_unwinds_as_in_perf(tmp_path: Path) -> None:
    compare(recorded(tmp_path, sys.executable, "-c", PYTHON_SOURCE), 300)


@pytest.mark.parametrize("copy_bytes", [512, 4096])
def test_stacks_deeper_than_the_copy_end_where_perf_ends_them(tmp_path: Path, copy_bytes: int) -> None:
    samples = compare(recorded(tmp_path, sys.executable, "-c", PYTHON_SOURCE, copy_bytes=copy_bytes), 300)
    assert max(sample.copied for sample in samples) == copy_bytes


def test_recursion_is_cut_off_at_the_depth_of_perf(tmp_path: Path) -> None:
    (tmp_path / "prog.c").write_text(
        "volatile long sink;\n"
        "__attribute__((noinline)) long down(long n) {\n"
        "    if (n) return down(n - 1) + n;\n"
        "    for (int i = 0; i < 20000; i++) sink += i;\n"
        "    return sink;\n"
        "}\n"
        "int main(void) { for (int i = 0; i < 8000; i++) down(i % 300); }\n"
    )
    subprocess.run(["gcc", "-O1", "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    samples = compare(recorded(tmp_path, str(tmp_path / "prog")), 50)
    assert max(len(sample.addresses) for sample in samples) == 127


def test_functions_without_call_frame_information_end_stacks_where_perf_does(tmp_path: Path) -> None:
    (tmp_path / "prog.c").write_text(CLOCK_SOURCE)
    options = ["-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables"]
    subprocess.run(["gcc", *options, "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    samples = compare(recorded(tmp_path, str(tmp_path / "prog")), 100)
    assert any(sample.modules[0].path == VDSO for sample in samples)


def test_stacks_of_a_process_tree_reach_the_entry_points_of_its_programs(tmp_path: Path) -> None:
    # No comparison: perf 6.1 looks libraries up by mappings that a process had before exec, and ends stacks there.
    (tmp_path / "prog.cc").write_text(CXX_SOURCE)
    path = recorded(tmp_path, "g++", "-O2", "-c", str(tmp_path / "prog.cc"), "-o", str(tmp_path / "prog.o"))
    assert share_from_entry_point(unwound(path)) > 0.99


def test_stacks_of_a_static_program_reach_its_entry_point(tmp_path: Path) -> None:
    # No comparison: static programs have no .eh_frame_hdr, without which perf ends stacks at once.
    (tmp_path / "prog.c").write_text(CLOCK_SOURCE)
    subprocess.run(["gcc", "-O2", "-static", "prog.c", "-o", "prog"], check=True, cwd=tmp_path)
    path = recorded(tmp_path, str(tmp_path / "prog"))
    assert {Path(module.path).name for sample in unwound(path) for module in sample.modules} <= {"prog", VDSO}
    assert share_from_entry_point(unwound(path)) > 0.99


@pytest.mark.skipif(
    shutil.which("node") is None, reason="node, whose compiler keeps frame pointers, is not installed"
)
def test_frame_pointers_lead_through_code_of_a_jit_compiler(tmp_path: Path) -> None:
    path = recorded(tmp_path, "node", "--single-threaded", "-e", JIT_SOURCE)
    compare(path, 100)
    followed = unwound(path, frame_pointers=True)
    assert share_from_entry_point(followed) > 0.9 > share_from_entry_point(unwound(path))


SOURCE_32 = r"""
volatile unsigned sink;
__attribute__((noinline)) void spin(int n) { for (int i = 0; i < n; i++) sink += i * i; }
__attribute__((noinline)) int deep(int n) {
    volatile char room[n * 8 + 4];
    room[n] = n;
    if (n) sink += deep(n - 1); else spin(20000);
    return room[n];
}
void _start(void) {
    __asm__ volatile(".cfi_undefined 8");
    for (int i = 0; i < 20000; i++) deep(i % 20);
    __asm__ volatile("int $0x80" ::"a"(1), "b"(0));
}
"""


def built_32(directory: Path, *options: str) -> Path:
    (directory / "prog.c").write_text(SOURCE_32)
    words = ["gcc", "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-O2", *options, "prog.c", "-o", "prog"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=directory)
    if done.returncode:
        pytest.skip(f"this gcc makes no 32-bit code: {done.stderr.splitlines()[0]}")
    try:
        subprocess.run([directory / "prog"], check=True)
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    return directory / "prog"


def test_stacks_of_a_32_bit_program_are_the_calls_that_it_makes(tmp_path: Path) -> None:
    # No comparison: perf unwinds no 32-bit stacks here ("target platform=x86 is not supported").
    program = built_32(tmp_path, "-fomit-frame-pointer", "-fasynchronous-unwind-tables")
    samples = unwound(recorded(tmp_path, str(program)))
    depths = set()
    for sample in samples:
        module = Module(str(program))
        offsets = np.array(sample.places, np.uint64)
        names = [chain[-1].function for chain in Symbolizer().user(module, offsets)]
        calls = names[1:] if names[0] == "spin" else names
        assert names[-1] == "_start" and set(calls[:-1]) <= {"deep"}
        if names[0] == "spin":
            depths.add(calls.count("deep"))
    assert depths == set(range(1, 21))


def test_frame_pointers_of_a_32_bit_program_lead_to_the_names_of_perf(tmp_path: Path) -> None:
    program = built_32(tmp_path, "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
    output = tmp_path / "fp.data"
    options = ["-q", "-F", "1999", "-e", "cpu-clock:u", "-g", "-o", str(output)]
    subprocess.run(["perf", "record", *options, "--", str(program)], check=True, capture_output=True)
    words = ["perf", "script", "-F", "ip,sym", "-i", str(output)]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    blocks = [[line.split()[1] for line in block.splitlines() if line.strip()] for block in text.split("\n\n")]
    theirs = Counter(";".join(["prog", *reversed(names)]) for names in blocks if names)
    words = [sys.executable, "-m", "insitu", "report", "--folded", "--as-perf", str(output)]
    folded = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    ours = {stack: int(count) for stack, _, count in (line.rpartition(" ") for line in folded.splitlines())}
    assert ours == dict(theirs)
    assert len(ours) >= 20


def share_from_entry_point(samples: list[Sample]) -> float:
    """The share of the samples, of those whose whole stack was copied, that begin at their file's entry point."""
    distances = []
    entry_points: dict[Module, int] = {}
    for sample in samples:
        if sample.copied >= COPY_BYTES:
            continue
        module = sample.modules[-1]
        elf = opened(module)
        if elf is None:
            distances.append(-1)
            continue
        if module not in entry_points:
            entry_points[module] = int.from_bytes(elf.read(24, 8), "little")  # e_entry of Elf64_Ehdr
        vaddr = int(elf.vaddrs_of(np.array(sample.places[-1:], np.uint64))[0])
        distances.append(vaddr - entry_points[module])
    assert len(distances) > 100
    return sum(0 <= distance < 64 for distance in distances) / len(distances)


_NESTED = """
import time
def inner(end):
    while time.process_time() < end:
        sum(i * i for i in range(300))
def middle(end):
    return sorted([inner(end)], key=str)
def outer(end):
    return [*map(lambda e: middle(e), [end])]
outer(time.process_time() + 1)
"""


@pytest.mark.parametrize("version", [(3, 12), (3, 13)], ids=["3.12", "3.13"])
def test_stacks_of_cpython_with_perf_trampolines_are_whole(version: tuple[int, int], tmp_path: Path) -> None:
    """Through C between them, in a build without frame pointers: from main() to what runs."""
    found = next((each for each in interpreters(version) if f"python{version[0]}.{version[1]}" in each), None)
    if found is None:
        pytest.skip(f"CPython {version[0]}.{version[1]} is not installed")
    (tmp_path / "work.py").write_text(_NESTED)
    run = tmp_path / "run.insitu"
    insitu = [sys.executable, "-m", "insitu"]
    words = ["profile", "--stacks", "dwarf", "-F", "499", "-o", run, "--", found, "-X", "perf", tmp_path / "work.py"]
    subprocess.run([*insitu, *words], check=True, capture_output=True)
    folded = subprocess.run([*insitu, "report", "--folded", run], check=True, capture_output=True, text=True).stdout
    names = ["<module>", "outer", "outer.<locals>.<lambda>", "middle", "inner"]
    called = [f"py::{name}:{tmp_path}/work.py" for name in names]
    inside = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if called[-1] in frames:
            assert [frame for frame in frames if frame in called] == called
            assert "Py_RunMain" in frames[: frames.index(called[0])]
            inside += int(count)
    assert inside > 400  # of 499 a second of CPU time, of which it is nearly all
