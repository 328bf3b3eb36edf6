"""insitu guard: every fault is found where the generator of programs put it, and nothing sound is blamed."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.debug.guard import guard
from insitu.debug.guard_faults import Fault, explained
from insitu.debug.guard_program import LIBRARY, Settings, environment
from insitu.debug.guard_records import DOUBLE_FREE, Records, read_records
from insitu.views.guard import verdict

__all__ = ["unprivileged"]

PROGRAMS = Path(__file__).parent / "guard_programs"
PAGE = os.sysconf("SC_PAGESIZE")
SIZES = (1, 7, 8, 15, 16, 17, 24, 100, 255, 4080, 4095, 4096, 4097, 65536, 1 << 20)

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="make setup has not built the guard allocator")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    for source in PROGRAMS.iterdir():
        compiler = "g++" if source.suffix == ".cc" else "gcc"
        command = [compiler, "-g", "-O1", "-w", "-pthread", "-o", str(folder / source.stem), str(source)]
        subprocess.run(command, check=True)
    return folder


class Run(NamedTuple):
    faults: list[Fault]
    records: Records
    statuses: list[int]
    pids: list[int]

    def of(self, number: int) -> list[Fault]:
        return [fault for fault in self.faults if fault.pid == self.pids[number]]


def run_all(
    commands: Sequence[Sequence[str]], folder: Path, sites: Sequence[str] = (), program: str = "", **settings: int
) -> Run:
    """Run guarded commands one after another, and explain what they reported."""
    folder.mkdir()
    variables = environment(Settings(**settings), folder, sites, program)
    statuses, pids = [], []
    for command in commands:
        child = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        statuses.append(child.wait())
        pids.append(child.pid)
    records = read_records(folder)
    return Run(explained(records.faults, LIBRARY)[0], records, statuses, pids)


class Access(NamedTuple):
    """An access that the generator makes."""

    kind: str
    how: str
    size: int
    align: int
    offset: int
    width: int
    thread: int

    def command(self, built: Path) -> list[str]:
        return [str(built / "fault"), *map(str, self)]

    def expected(self, mode: str) -> tuple[str, str, int] | None:
        """Kind, access and offset of the fault that must be reported; None: none can be."""
        align = max(self.align, 16) if self.how == "memalign" else 1 if mode == "exact" else 16
        pages = -(-self.size // PAGE) * PAGE
        start = 0 if mode == "before" else (pages - self.size) // align * align
        first, last = start + self.offset, start + self.offset + self.width  # in the pages
        kind = "underrun" if self.offset < 0 else "overrun"
        if first < 0 or last > pages:
            return kind, self.kind, self.offset
        outside = [at for at in range(self.offset, self.offset + self.width) if not 0 <= at < self.size]
        if not outside or self.kind == "read":
            return None
        return kind, "found later", min(outside)


def generated(mode: str) -> list[Access]:
    """Accesses at, across and beyond both ends of blocks; a part of all, the same each time."""
    made = []
    for size, kind, width, thread in itertools.product(SIZES, ("read", "write"), (1, 4, 8), (0, 1)):
        ends = (-4096, -width, -1, 0, size - width, size - 1, size, size + 15 - (size + 15) % 16, size + 100)
        for offset in ends:
            if offset < 0 < offset + width or (offset < 0 and -offset > PAGE):
                continue  # across the start: both ends' rules would apply
            made.append(Access(kind, "malloc", size, 16, offset, width, thread))
    others = []
    for size, how, align in itertools.product(SIZES, ("calloc", "realloc", "memalign"), (16, 32, 64, 256, 4096)):
        others.append(Access("write", how, size, align, size, 1, 0))
        others.append(Access("write", how, size, align, -1, 1, 0))
    choice = random.Random(15)
    return choice.sample(made, 120) + choice.sample(others, 30)


@pytest.mark.parametrize("mode", ["end", "before", "exact", "mprotect"])
def test_accesses_beside_a_block_are_found_where_they_are_and_sound_ones_are_not_blamed(
    mode: str, built: Path, tmp_path: Path
) -> None:
    accesses = generated(mode)
    options = {mode: 1} if mode != "end" else {}
    ran = run_all([each.command(built) for each in accesses], tmp_path / "reports", **options)
    seen = set()
    for number, access in enumerate(accesses):
        expected, faults = access.expected(mode), ran.of(number)
        seen.add(expected and expected[:2])
        assert len(faults) == (expected is not None), (access, faults)
        if expected is None:
            assert ran.statuses[number] == 0, access
            continue
        (fault,) = faults
        assert fault.block is not None
        assert (fault.kind, fault.access, fault.offset) == expected, access
        assert fault.block.size == access.size
        align = access.align if access.how == "memalign" else 1 if mode == "exact" else 16
        assert fault.block.address % align == 0
        assert fault.block.allocated.stack[0].function == "allocate_here"
        if fault.access == "found later":
            assert ran.statuses[number] == 0
            assert fault.stack[0].function == "free_here"
        else:
            assert ran.statuses[number] == -signal.SIGSEGV
            assert fault.size == access.width
            assert fault.stack[0].function == "access_here"
            assert [frame.function for frame in fault.stack][1:2] == ["fault"]
        assert (fault.tid != fault.pid) == bool(access.thread)
    assert {("overrun", "found later"), ("overrun", "write"), ("overrun", "read"), ("underrun", "write")} <= seen
    assert (("underrun", "found later") in seen) == (mode != "before")
    assert ran.records.damaged == 0


def test_uses_of_freed_blocks_and_wrong_frees_are_found(built: Path, tmp_path: Path) -> None:
    uses = [
        Access(kind, how, size, 64, size // 2 if kind != "invalid" else 1, 1, thread)
        for kind in ("read-freed", "write-freed", "double", "invalid")
        for how, size, thread in itertools.product(("malloc", "memalign"), (1, 24, 4096, 1 << 20), (0, 1))
    ]
    uses += [Access(kind, "malloc", 8, 16, 0, 1, 0) for kind in ("stack", "static")]
    ran = run_all([each.command(built) for each in uses], tmp_path / "reports")
    for number, use in enumerate(uses):
        (fault,) = ran.of(number)
        if use.kind.endswith("-freed"):
            assert (fault.kind, fault.access, fault.offset) == ("use-after-free", use.kind[:-6], use.offset)
            assert ran.statuses[number] == -signal.SIGSEGV
            assert fault.stack[0].function == "access_here"
        else:
            kind = {"double": "double-free"}.get(use.kind, "invalid-free")
            assert (fault.kind, fault.access) == (kind, "")
            assert ran.statuses[number] == -signal.SIGABRT
            assert fault.stack[0].function == "free_here"
        if use.kind in ("stack", "static"):
            assert fault.block is None
            continue
        assert fault.block is not None
        assert fault.block.size == use.size
        assert fault.block.allocated.stack[0].function == "allocate_here"
        if use.kind == "invalid":
            assert (fault.block.freed, fault.offset) == (None, 1)
        else:
            assert fault.block.freed is not None
            assert fault.block.freed.stack[0].function == "free_here"
            assert (fault.block.freed.tid != fault.pid) == bool(use.thread)


def test_bytes_beside_a_block_that_is_never_freed_are_checked_at_exit(built: Path, tmp_path: Path) -> None:
    offsets = (24, 30, -1, -8)
    accesses = [Access("write-kept", "malloc", 24, 16, offset, 1, 0) for offset in (*offsets, 23)]
    ran = run_all([each.command(built) for each in accesses], tmp_path / "reports")
    found = [(fault.access, fault.offset, fault.freed_by) for fault in ran.faults]
    assert found == [("found later", offset, 0) for offset in offsets]
    assert ran.statuses == [0] * 5
    first = verdict(ran.faults[0])
    assert first.startswith("Heap overrun of a block of 24 bytes from allocate_here (fault.c:")
    assert "noticed as the process ended: fault (" in first and first.endswith(
        "overwrote the byte directly after its end"
    )


DAMAGED = """
#include <stdlib.h>
#include <string.h>
static char *make(int size) { return malloc(size); }
int main(int count, char **words) {
    char *volatile first = make(30), *volatile second = make(32), *volatile kept = make(40);
    kept[41] = 1;
    switch (words[1][0]) {
    case 'a': second[32] = 1; break;
    case 'd': free(second); free(second); break;
    case 'p': first[30] = 1; free(first); break;
    }
    return 0;
}
"""


def test_without_line_numbers_functions_have_offsets_as_the_disassembler_has_them(tmp_path: Path) -> None:
    (tmp_path / "damaged.c").write_text(DAMAGED)
    program = str(tmp_path / "damaged")
    subprocess.run(["gcc", "-O0", "-w", "-o", program, tmp_path / "damaged.c"], check=True)
    (fault, _) = guard([program, "a"]).faults
    listing = subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True).stdout
    main = listing.split("<main>:\n")[1].split("\n\n")[0].splitlines()
    start = int(main[0].split(":")[0], 16)
    stores = [int(line.split(":")[0], 16) - start for line in main if "movb   $0x1,(%rax)" in line]
    calls = [int(after.split(":")[0], 16) - start for line, after in itertools.pairwise(main) if "<make>" in line]
    assert fault.stack[0].function in {f"main+{offset:#x}" for offset in stores}
    assert fault.block is not None
    assert fault.block.allocated.stack[1].function == f"main+{calls[1]:#x}"
    assert verdict(fault).startswith(f"Heap overrun in {fault.stack[0].function}: damaged (")


def test_what_else_was_overwritten_is_said_when_the_program_dies(tmp_path: Path) -> None:
    (tmp_path / "damaged.c").write_text(DAMAGED)
    subprocess.run(["gcc", "-g", "-O0", "-w", "-o", tmp_path / "damaged", tmp_path / "damaged.c"], check=True)
    for word, kind, signaled in (("a", "overrun", signal.SIGSEGV), ("d", "double-free", signal.SIGABRT)):
        found = guard([str(tmp_path / "damaged"), word])
        assert found.status == 128 + signaled
        assert [(fault.kind, fault.access == "found later") for fault in found.faults] == [
            (kind, False),
            ("overrun", True),
        ]
        later = found.faults[1]
        assert later.block is not None and (later.block.size, later.offset) == (40, 41)
        assert verdict(later).endswith("overwrote the byte 1 byte after its end")
        assert len(found.counts) == 1
    first, last = guard([str(tmp_path / "damaged"), "p"]).faults
    line = next(number for number, text in enumerate(DAMAGED.split("\n"), 1) if "case 'p'" in text)
    noticed = f"noticed at free in main (damaged.c:{line}): damaged ("
    assert verdict(first).startswith(f"Heap overrun of a block of 30 bytes from make (damaged.c:4), {noticed}")
    assert last.block is not None and last.block.size == 40


def test_headlines_name_no_headers_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "v.cc").write_text(
        "#include <vector>\nint main() {\n    std::vector<int> v(4);\n    v[4] = 1;\n    return v[0];\n}\n"
    )
    subprocess.run(["g++", "-g", "-O0", "-o", tmp_path / "v", tmp_path / "v.cc"], check=True)
    (fault,) = guard([str(tmp_path / "v")]).faults
    assert verdict(fault).startswith("Heap overrun in main (v.cc:4)")
    assert fault.block is not None
    assert "std::" in fault.block.allocated.stack[1].function + fault.block.allocated.stack[0].function


def test_families_that_do_not_match_are_reported_and_the_program_goes_on(built: Path, tmp_path: Path) -> None:
    words = ("malloc", "new", "array", "aligned")
    family = {"malloc": 1, "new": 2, "array": 3, "aligned": 2}
    pairs = list(itertools.product(words, words))
    ran = run_all([[str(built / "families"), *pair] for pair in pairs], tmp_path / "reports")
    assert set(ran.statuses) == {0}
    for number, (allocated, freed) in enumerate(pairs):
        faults = ran.of(number)
        assert len(faults) == (family[allocated] != family[freed]), (allocated, freed)
        for fault in faults:
            assert fault.block is not None
            assert (fault.kind, fault.block.family, fault.freed_by) == (
                "mismatched-free",
                family[allocated],
                family[freed],
            )
            assert fault.stack[0].function == "free_here"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"before": 1},
        {"exact": 1},
        {"mprotect": 1},
        {"sample": 3},
        {"min": 16, "max": 64},
        {"memory": 1 << 16},
        {"quarantine": 0},
        {"quarantine": 1, "mprotect": 1},
        {"slots": 5},
    ],
    ids=str,
)
def test_a_sound_program_runs_as_without_it(settings: Mapping[str, int], built: Path, tmp_path: Path) -> None:
    words = ["exact"] if "exact" in settings else []
    folder = tmp_path / "reports"
    folder.mkdir()
    variables = environment(Settings(**settings), folder, [], "")
    ran = subprocess.run(
        [built / "sound", *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("sound\n", "", 0)
    records = read_records(folder)
    assert not records.faults
    counts = max(records.counts, key=lambda each: each.blocks)
    assert 0 < counts.guarded <= counts.blocks
    assert (counts.guarded < counts.blocks) == bool({"sample", "min", "memory", "slots"} & {*settings})
    if "slots" in settings:
        assert counts.live_most <= 5
    if "memory" in settings:
        assert counts.bytes_most <= 1 << 16 and counts.no_memory > 0


def test_where_mappings_run_out_the_program_goes_on_and_it_is_counted(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    source, program = tmp_path / "many.c", tmp_path / "many"
    source.write_text(
        f"#include <stdlib.h>\nint main(void) {{ for (int i = 0; i < {most}; i++) "
        "if (!malloc(8)) return 1; return 0; }\n"
    )
    subprocess.run(["gcc", "-O0", "-o", program, source], check=True)
    ran = run_all([[str(program)], [str(program)]], tmp_path / "reports", mprotect=1)
    assert ran.statuses == [0, 0]
    for counts in ran.records.counts:
        assert counts.blocks >= most
        assert counts.guarded + counts.no_mappings == counts.blocks
        assert counts.guarded == (most - most // 8) // 2
    if run_all([["/bin/true"]], tmp_path / "asked").records.counts[0].guard_pages:
        (counts,) = run_all([[str(program)]], tmp_path / "pages").records.counts
        assert counts.guarded == counts.blocks  # one mapping, however many blocks


def test_only_blocks_of_the_site_and_size_asked_for_are_guarded(built: Path, tmp_path: Path) -> None:
    program = str(built / "fault")
    inside = Access("write", "malloc", 32, 16, 32, 1, 0).command(built)
    ran = run_all([inside], tmp_path / "a", ["allocate_here"], program)
    assert [fault.kind for fault in ran.faults] == ["overrun"]
    ran = run_all([inside], tmp_path / "b", ["main"], program)
    assert (ran.faults, ran.records.counts[0].guarded) == ([], 0)
    ran = run_all([inside], tmp_path / "c", min=32, max=32)
    assert len(ran.faults) == 1
    ran = run_all([inside], tmp_path / "d", min=33, max=64)
    assert (ran.faults, ran.statuses) == ([], [0])


def _compiles(folder: Path) -> list[str]:
    source = folder / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    return ["gcc", "-O2", "-S", "-o", "-", str(source)]


REAL: Mapping[str, Callable[[Path], list[str]]] = {
    "python3": lambda folder: [
        sys.executable,
        "-c",
        "import json, re, decimal; print(json.dumps({str(i): [re.sub('1', '2', str(i))] for i in range(300)}))",
    ],
    "git": lambda folder: ["git", "-C", str(PROGRAMS.parents[2]), "log", "--stat", "-3"],
    "gcc": _compiles,
    "sqlite3": lambda folder: [
        "sqlite3",
        ":memory:",
        "with recursive n(x) as (select 1 union all select x+1 from n limit 500) select group_concat(x) from n",
    ],
    "sort": lambda folder: ["sort", str(PROGRAMS / "fault.c")],
    "perl": lambda folder: ["perl", "-e", "my %h; $h{$_ % 7} .= $_ for 1..2000; print join ',', map {$h{$_}} 0..6;"],
}


@pytest.mark.parametrize("name", REAL)
def test_real_programs_print_the_same_under_it_and_nothing_is_blamed(name: str, tmp_path: Path) -> None:
    command = REAL[name](tmp_path)
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    variables = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    plain = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=True)
    folder = tmp_path / "reports"
    folder.mkdir()
    variables |= environment(Settings(), folder, [], "")
    guarded = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=True)
    assert (guarded.stdout, guarded.stderr) == (plain.stdout, plain.stderr)
    records = read_records(folder)
    assert not records.faults
    assert sum(counts.guarded for counts in records.counts) > 0


def insitu(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "insitu", "guard", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def test_the_command_says_in_words_what_happened_and_dies_as_the_program_does(built: Path, tmp_path: Path) -> None:
    over = Access("write", "malloc", 32, 16, 36, 4, 0).command(built)
    session = str(tmp_path / "faults.insitu")
    ran = insitu("-o", session, "--", *over)
    assert ran.returncode == 128 + signal.SIGSEGV
    assert ran.stderr.startswith("Heap overrun in access_here (fault.c:")
    assert "wrote 4 bytes 4 bytes after the end of a block of 32 bytes" in " ".join(ran.stderr.split())
    assert "insitu: 1 fault; guarded" in ran.stderr
    (tmp_path / "taken.insitu").write_text("somebody's file")
    refused = insitu("-o", str(tmp_path / "taken.insitu"), "--", "touch", str(tmp_path / "ran"))
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()
    report = subprocess.run(
        [sys.executable, "-m", "insitu", "report", session], capture_output=True, text=True, check=True
    )
    assert "access_here" in report.stdout and "overrun" in report.stdout


WILD = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **words) {
    char *volatile first = malloc(32), *volatile second = malloc(32);
    char *volatile wild = (char *)0x4141414141414141;
    switch (words[1][0]) {
    case 'w': *wild = 1; break;
    case 'r': return *wild;
    case 'f': first[5000] = 1; free(second); break;
    case 'b': second[-4096] = 1; break;
    case 'j': ((void (*)(void))first)(); break;
    case 'n': ((void (*)(void))0)(); break;
    case 'x': { uint64_t eight = 8; memcpy(first + 28, &eight, sizeof eight); break; }
    }
    return 0;
}
"""


def test_wild_pointers_far_accesses_and_jumps_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "wild.c").write_text(WILD)
    subprocess.run(["gcc", "-g", "-O0", "-w", "-o", tmp_path / "wild", tmp_path / "wild.c"], check=True)
    for word, deed in (("w", "wrote"), ("r", "read")):
        (fault,) = guard([str(tmp_path / "wild"), word]).faults
        assert verdict(fault).endswith(f"{deed} 1 byte at 0x4141414141414141, not a canonical address")
        assert (fault.kind, fault.signal_address) == ("elsewhere", None)
    # Each block of 32 bytes ends its page, and an inaccessible page is between them.
    for word, after, before in (("f", 5000 - 32, 2 * PAGE - 5000), ("b", 2 * PAGE - 32 - 4096, 4096)):
        (fault,) = guard([str(tmp_path / "wild"), word]).faults
        assert fault.kind == "between"
        assert f"{after:,} bytes after the end of a block of 32 bytes from main (" in verdict(fault)
        assert f" and {before:,} bytes before the start of a block of 32 bytes from main (" in verdict(fault)
    for word, kind in (("j", "executed"), ("n", "null")):
        (fault,) = guard([str(tmp_path / "wild"), word]).faults
        assert (fault.kind, fault.access, fault.stack[1].function) == (kind, "execute", "main")
        called = (
            WILD.splitlines().index(f"    case '{word}': " + WILD.split(f"case '{word}': ")[1].splitlines()[0]) + 1
        )
        assert fault.stack[1].line == called
    (fault,) = guard([str(tmp_path / "wild"), "x"], Settings(exact=1)).faults
    assert fault.block is not None
    assert (fault.address, fault.signal_address) == (fault.block.address + 28, fault.block.address + 32)


def test_python_has_the_faults_too(built: Path) -> None:
    found = guard(Access("double", "malloc", 100, 16, 0, 1, 0).command(built))
    assert (found.status, [fault.kind for fault in found.faults]) == (128 + signal.SIGABRT, ["double-free"])


def test_a_fault_that_does_not_kill_makes_the_status_1(built: Path) -> None:
    ran = insitu("--json", "--", str(built / "families"), "new", "malloc")
    assert ran.returncode == 1
    import json

    document = json.loads(ran.stdout)
    assert [fault["kind"] for fault in document["faults"]] == ["mismatched-free"]
    assert insitu("--", str(built / "families"), "new", "new").returncode == 0
    assert insitu("--", "sh", "-c", "exit 5").returncode == 5


ENDS = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
    void *volatile kept = malloc(24);
    volatile int zero = 0;
    switch (words[1][0]) {
    case 'f': return 7 / zero;
    case 'a': abort();
    case 'i': __builtin_trap();
    case 'b': if (fork() == 0) { read(0, words[1], 1); _exit(0); }
    }
    puts("over");
    return 0;
}
"""


def test_the_last_lines_say_what_was_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "ends.c").write_text(ENDS)
    program = str(tmp_path / "ends")
    subprocess.run(["gcc", "-g", "-O0", "-w", "-o", program, tmp_path / "ends.c"], check=True)
    for word, number in (("f", signal.SIGFPE), ("a", signal.SIGABRT), ("i", signal.SIGILL)):
        ran = insitu("--", program, word)
        assert ran.returncode == 128 + number
        assert f"no fault of the heap, but exit status {128 + number} ({number.name})" in ran.stderr
    assert "none of" in insitu("--size", "7777", "--", program, "x").stderr
    assert "none of" not in insitu("--", program, "x").stderr
    reading, writing = os.pipe()  # the child in the background ends when this does
    with (tmp_path / "errors").open("w+") as errors, os.fdopen(writing, "w"):
        words = [sys.executable, "-m", "insitu", "guard", "--", program, "b"]
        subprocess.run(words, stdin=reading, stdout=subprocess.DEVNULL, stderr=errors, check=True)
        os.close(reading)
        errors.seek(0)
        assert "a process still runs in the background, not waited for" in errors.read()


def test_a_document_in_a_file_leaves_the_output_to_the_program(built: Path, tmp_path: Path) -> None:
    import json

    (tmp_path / "ends.c").write_text(ENDS)
    subprocess.run(["gcc", "-w", "-o", tmp_path / "ends", tmp_path / "ends.c"], check=True)
    ran = insitu("-o", str(tmp_path / "faults.json"), "--", str(tmp_path / "ends"), "x")
    assert (ran.returncode, ran.stdout) == (0, "over\n")
    assert json.loads((tmp_path / "faults.json").read_text())["faults"] == []
    ran = insitu("-o", str(tmp_path / "faults.json"), "--", str(built / "families"), "new", "malloc")
    assert "Mismatched free" in ran.stderr
    assert len(json.loads((tmp_path / "faults.json").read_text())["faults"]) == 1


def test_what_cannot_be_guarded_is_refused_in_one_line(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("#include <stdlib.h>\nint main(void) { return !malloc(1); }\n")
    own = tmp_path / "own.c"
    own.write_text(
        "#include <stddef.h>\nvoid *malloc(size_t s) { return 0; }\nint main(void) { return !malloc(1); }\n"
    )
    for name, words, said in (
        ("static", ["-static", str(source)], "statically linked"),
        ("sanitized", ["-fsanitize=address", str(source)], "AddressSanitizer"),
        ("own", ["-fno-builtin", str(own)], "defines malloc itself"),
    ):
        subprocess.run(["gcc", *words, "-o", tmp_path / name], check=True)
        ran = insitu("--", str(tmp_path / name))
        assert ran.returncode == 1
        assert ran.stderr.count("\n") == 1 and said in ran.stderr, ran.stderr


def test_a_user_without_privileges_gets_the_same_report(built: Path, unprivileged: Unprivileged) -> None:
    shutil.copy(built / "fault", unprivileged.directory / "fault")
    ran = unprivileged((), "guard", "--", "./fault", "write-freed", "malloc", "24", "16", "8", "8", "0")
    assert ran.returncode == 128 + signal.SIGSEGV
    assert ran.stderr.startswith("Use after free in access_here"), ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_program_of_root_that_becomes_another_user_reports_too(built: Path, tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as name:  # pytest's directories are closed to others
        Path(name).chmod(0o755)
        shutil.copy(LIBRARY, f"{name}/library.so")
        shutil.copy(built / "fault", f"{name}/fault")
        use = ["./fault", "double", "malloc", "24", "16", "0", "1", "0"]
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *use]
        reports = Path(name) / "reports"
        reports.mkdir()
        reports.chmod(0o1733)  # as guard() makes it
        variables = environment(Settings(), reports, [], "") | {"LD_PRELOAD": f"{name}/library.so"}
        subprocess.run(words, cwd=name, env={**os.environ, **variables}, check=False, stderr=subprocess.DEVNULL)
        found = read_records(reports)
    assert [fault.kind for fault in found.faults] == [DOUBLE_FREE]


WATCHED = """
#include <stdint.h>
#include <stdio.h>
volatile uint64_t counter = 7;
__attribute__((noinline)) void bump(int by) { counter += by; }
int main(void) {
    printf("%p\\n", (void *)&counter);
    fflush(stdout);
    getchar();
    for (int i = 1; i <= 5; i++) bump(i);
    return 0;
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="watchpoints need root")
def test_each_write_of_a_watched_address_has_its_stack_and_both_values(tmp_path: Path) -> None:
    from insitu.capabilities import tracing

    if not tracing.watchpoints().available:
        pytest.skip("no watchpoints: " + tracing.watchpoints().reason)
    (tmp_path / "w.c").write_text(WATCHED)
    subprocess.run(["gcc", "-g", "-O1", "-o", tmp_path / "w", tmp_path / "w.c"], check=True)
    with subprocess.Popen([tmp_path / "w"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        address = child.stdout.readline().decode().strip()
        words = [sys.executable, "-m", "insitu", "guard", "-p", str(child.pid), "--watch", f"{address}:8", "--json"]
        session = tmp_path / "watch.insitu"
        with subprocess.Popen(
            [*words, "-o", str(session)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watcher:
            assert watcher.stderr is not None
            assert "watching" in watcher.stderr.readline()
            child.stdin.write(b"\n")
            child.stdin.flush()
            document, _ = watcher.communicate()
    import json

    writes = json.loads(document)["writes"]
    values = list(itertools.accumulate(range(1, 6), initial=7))
    assert [(write["before"], write["after"]) for write in writes] == list(itertools.pairwise(values))
    assert {write["stack"][0]["function"] for write in writes} == {"bump"}
    assert {write["stack"][1]["function"] for write in writes} == {"main"}


BUSY = """
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
volatile uint64_t counter = 7;
int main(void) {
    printf("%p\\n", (void *)&counter);
    fflush(stdout);
    for (;;) { counter += 3; usleep(2000); }
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="watchpoints need root")
def test_the_first_write_of_a_busy_address_has_no_value_before_and_comes_after_the_heading(tmp_path: Path) -> None:
    import json

    from insitu.capabilities import tracing

    if not tracing.watchpoints().available:
        pytest.skip("no watchpoints: " + tracing.watchpoints().reason)
    (tmp_path / "b.c").write_text(BUSY)
    subprocess.run(["gcc", "-g", "-O1", "-o", tmp_path / "b", tmp_path / "b.c"], check=True)
    with subprocess.Popen([tmp_path / "b"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        address = child.stdout.readline().decode().strip()
        ran = insitu("-p", str(child.pid), "--watch", f"{address}:8", "--json", "-d", "0.5")
        child.kill()
    assert ran.stderr.startswith(f"watching 8 bytes at {int(address, 16):#x}, which are being written")
    assert ran.stderr.count("watching") == 1
    writes = json.loads(ran.stdout)["writes"]
    assert len(writes) > 5
    assert writes[0]["before"] is None
    assert all(write["after"] == write["before"] + 3 for write in writes[1:])
