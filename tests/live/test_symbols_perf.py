"""Recordings of perf, its names beside ours: a program with and without debug information, node's compiled code."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.interpreters import interpreters

import insitu
from insitu.symbols.elf import Elf
from insitu.symbols.frame import JIT
from insitu.symbols.frame import PYTHON as PYTHON_KIND
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer
from insitu.views.call_tree import call_tree

PROGRAM_C = """
#include <string.h>
#include <time.h>
static char a[1 << 16], b[1 << 16];
#define FUNCTION __attribute__((noinline)) static long
FUNCTION crunch(long n) { long s = 0; for (long i = 0; i < n; i++) s = s * 31 + i; return s; }
FUNCTION copy(int n) { long s = 0; while (n--) { memcpy(a, b, sizeof a); s += a[n]; } return s; }
FUNCTION ask(int n) { struct timespec t; while (n--) clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_nsec; }
int main(void) {
  long s = 0;
  for (int i = 0; i < 60; i++) s += crunch(2000000) + copy(500) + ask(40000);
  return s == 1;
}
"""

_LINE = re.compile(r"\s*([0-9a-f]+) (.*) \((.*)\)$")


def samples(path: Path) -> list[tuple[int, str, str]]:
    """Offset in its file, function and file of each frame that perf script prints."""
    words = ["perf", "script", "-i", str(path), "-F", "ip,sym,dso", "--show-kernel-path"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = [_LINE.match(line) for line in text.splitlines()]
    return [(int(match[1], 16), match[2], match[3]) for match in found if match]


def perf_record(output: Path, *words: str | Path, event: str = "cpu-clock:u") -> None:
    command = ["perf", "record", "-q", "-F", "1999", "-e", event, "-g", "-o", str(output), "--", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output.parent)
    if not output.exists() or not output.stat().st_size:
        pytest.skip(f"perf cannot record {event} here: {done.stderr.strip()}")


def plt_names(program: Path) -> dict[int, str]:
    """Address -> name of its PLT entry, as objdump has them: this perf does not name all of them."""
    sections = [word for name in (".plt", ".plt.got", ".plt.sec") for word in ("-j", name)]
    listing = subprocess.run(["objdump", "-d", *sections, program], capture_output=True, text=True).stdout
    names, name = {}, ""
    for line in listing.splitlines():
        if heading := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = heading[1]
        elif (place := re.match(r" *([0-9a-f]+):\t", line)) and re.fullmatch(r"\w+@plt", name):
            names[int(place[1], 16)] = name
    return names


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
@pytest.mark.parametrize("stripped", [False, True])
def test_sampled_functions_have_the_names_that_perf_script_prints(tmp_path: Path, stripped: bool) -> None:
    (tmp_path / "prog.c").write_text(PROGRAM_C)
    program = tmp_path / "prog"
    subprocess.run(["gcc", "-O1", "-o", program, tmp_path / "prog.c", *(["-s"] if stripped else [])], check=True)
    perf_record(tmp_path / "perf.data", program)
    found = samples(tmp_path / "perf.data")
    assert len(found) > 100
    symbolizer = Symbolizer()
    seen = set()
    linkage = plt_names(program)
    assert set(linkage.values()) >= {"clock_gettime@plt", "memcpy@plt"}
    for place, name, path in set(found):
        if not path.startswith("/"):
            continue
        if path == str(program):
            name = linkage.get(place, name)
        (chain,) = symbolizer.user(Module(path), np.array([place], np.uint64))
        ours = chain[-1].function
        if ours.endswith("@plt") and name in ("[unknown]", "_init"):
            continue  # perf 6.1 does not know all stubs of the PLT (see docs/symbols.md)
        assert (ours if "+0x" not in ours else "[unknown]") == name
        seen.add(name)
    assert any("memcpy" in name or "memmove" in name for name in seen)
    assert ("crunch" in seen) != stripped


NODE = "function hot(n) { let s = 0; for (let i = 0; i < n; i++) s = (s * 31 + i) | 0; return s; }\n"
NODE += "let r = 0; for (let i = 0; i < 300; i++) r += hot(1000000 + i); console.log(r);\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_functions_that_node_compiled_have_the_names_that_perf_script_prints(tmp_path: Path) -> None:
    (tmp_path / "hot.js").write_text(NODE)
    perf_record(tmp_path / "perf.data", str(shutil.which("node")), "--perf-basic-prof", tmp_path / "hot.js")
    compiled = {(ip, name, path) for ip, name, path in samples(tmp_path / "perf.data") if "/perf-" in path}
    (path,) = {path for _, _, path in compiled}
    pid = int(Path(path).stem.removeprefix("perf-"))
    try:
        ips = np.array([ip for ip, _, _ in compiled], np.uint64)
        chains = Symbolizer().anonymous(pid, ips)
        ours = [frame.function for (frame,) in chains]
        assert [name if not name.startswith("0x") else "[unknown]" for name in ours] == [n for _, n, _ in compiled]
        assert {frame.kind for (frame,) in chains} == {JIT}
        assert any("hot" in name for name in ours)
    finally:
        Path(path).unlink(missing_ok=True)


TRAMPOLINES = r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
typedef long (*inner)(long, long, long, long);
typedef long (*trampoline)(long, long, long, inner);
/* CPython's Python/asm_trampoline.S: of 3.12 and 3.13, and the one that saves rbp. */
static const unsigned char plain[] = {0xf3,0x0f,0x1e,0xfa, 0x48,0x83,0xec,0x08, 0xff,0xd1, 0x48,0x83,0xc4,0x08, 0xc3};
static const unsigned char saving[] = {0xf3,0x0f,0x1e,0xfa, 0x55, 0x48,0x89,0xe5, 0xff,0xd1, 0x5d, 0xc3};
static trampoline calls[2];
__attribute__((noinline)) long spin(long a, long b, long c, long d) {
    struct timespec t; volatile long x = 0;
    do { for (int i = 0; i < 100000; i++) x += i; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); } while (!t.tv_sec);
    return x;
}
__attribute__((noinline)) long between(long a, long b, long c, long d) {
    volatile char room[a + 40];  /* of unknown size: needs rbp, whatever the options */
    room[0] = 1;
    return calls[1](a, b, c, spin) + room[0];
}
int main(void) {
    unsigned char *code = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, plain, sizeof plain); memcpy(code + 64, saving, sizeof saving);
    calls[0] = (trampoline)code; calls[1] = (trampoline)(code + 64);
    char name[64]; sprintf(name, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(name, "w");
    fprintf(map, "%lx 40 py::outer:/a.py\n%lx 40 py::nested:/a.py\n", (long)code, (long)code + 64);
    fclose(map);
    long result = calls[0](24, 2, 3, between);
    return result == 7;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the trampolines are x86-64's")
def test_stacks_go_through_pythons_perf_trampolines(tmp_path: Path) -> None:
    (tmp_path / "t.c").write_text(TRAMPOLINES)
    program = tmp_path / "t"
    subprocess.run(["gcc", "-O2", "-fomit-frame-pointer", "-o", program, tmp_path / "t.c"], check=True)
    with insitu.profile([str(program)], stacks="dwarf", frequency=299, kernel=False) as session:
        pid = session.sql("select pid from process where exe like '%/t'").row(0)[0]
        Path(f"/tmp/perf-{pid}.map").unlink()
        tree = call_tree(session.stacks())
    paths: dict[int, tuple[str, ...]] = {0: ()}
    for at, parent in enumerate(tree.parent.tolist()[1:], 1):
        paths[at] = (*paths[parent], tree.names[tree.name[at]].function)
    found = {paths[at][-5:]: own for at, own in enumerate(tree.own.tolist()) if paths[at][-1:] == ("spin",)}
    assert list(found) == [("main", "py::outer:/a.py", "between", "py::nested:/a.py", "spin")]
    assert all("_start" in path for at, path in paths.items() if path[-1:] == ("spin",))
    assert sum(found.values()) > 100


PYTHON = "def work(n):\n    return sum(i * i for i in range(n))\nfor _ in range(60):\n    work(100000)\n"


def python_with_trampolines() -> str:
    """A CPython that can write perf maps (3.12 and newer)."""
    for found in interpreters((3, 12)):
        words = [found, "-c", "import sys; sys.activate_stack_trampoline('perf')"]
        if not subprocess.run(words, capture_output=True).returncode:
            return found
    pytest.skip("no CPython with perf trampolines (3.12 or newer) is installed")


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_functions_of_cpython_have_the_names_that_perf_script_prints_and_their_file(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(PYTHON)
    perf_record(tmp_path / "perf.data", python_with_trampolines(), "-X", "perf", tmp_path / "work.py")
    compiled = {(ip, name, path) for ip, name, path in samples(tmp_path / "perf.data") if "/perf-" in path}
    if not any(name.startswith("py::work") for _, name, _ in compiled):
        pytest.skip("this CPython is built without frame pointers: perf sees few trampolines, and not those of work")
    (path,) = {path for _, _, path in compiled}
    try:
        pid = int(Path(path).stem.removeprefix("perf-"))
        chains = Symbolizer().anonymous(pid, np.array([ip for ip, _, _ in compiled], np.uint64))
        assert [frame.function for (frame,) in chains] == [name for _, name, _ in compiled]
        work = {frame for (frame,) in chains if frame.function.startswith("py::work")}
        assert {(frame.file, frame.kind) for frame in work} == {(str(tmp_path / "work.py"), PYTHON_KIND)}
    finally:
        Path(path).unlink(missing_ok=True)


def test_the_map_of_a_process_in_a_container_is_found_under_its_own_process_id() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a process namespace")
    script = "mount -t tmpfs none /tmp && echo '1000 80 inside' > /tmp/perf-$$.map && echo ok && read x"
    words = ["unshare", "--pid", "--fork", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "ok\n":
            pytest.skip("tmpfs cannot be mounted here")
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        ((frame,),) = Symbolizer().anonymous(pid, np.array([0x1010], np.uint64))
        process.stdin.close()
    assert (frame.function, frame.kind) == ("inside", JIT)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process with a file at a path that is empty outside of its mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a mount namespace")
    place = tmp_path / "mounted"
    place.mkdir()
    source = "__attribute__((noinline)) static int inner(int x) { return x * 3; }\n"
    source += "int work(int x) { return inner(x) + 1; }\n"
    (tmp_path / "lib.c").write_text(source)
    build = f"cd {place} && gcc -g -shared -fPIC -o libwork.so {tmp_path}/lib.c && cp libwork.so libwork.whole && "
    build += "objcopy --only-keep-debug libwork.so libwork.debug && strip libwork.so && "
    build += "objcopy --add-gnu-debuglink=libwork.debug libwork.so"
    script = f"mount -t tmpfs none {place} && {build} && echo ok && read x"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "ok\n":
            pytest.skip("tmpfs cannot be mounted here")
        yield process.pid, place / "libwork.so"
        process.stdin.close()


def test_files_of_another_mount_namespace_are_read_through_their_process(elsewhere: tuple[int, Path]) -> None:
    pid, path = elsewhere
    assert not path.exists()
    table = Elf(path.with_suffix(".whole"), root=f"/proc/{pid}/root").symbols(".symtab")
    inside = Elf(path, root=f"/proc/{pid}/root")
    assert table is not None
    value = next(int(e["value"]) for e in table.entries if table.name(int(e["name"])) == b"inner")
    offsets = inside.offsets_of(np.array([value], np.uint64))
    module = Module(str(path), inside.build_id, pid)
    (frame,) = Symbolizer().user(module, offsets)[0]
    assert (frame.function, Path(frame.file).name, frame.line) == ("inner", "lib.c", 1)
    assert Symbolizer(live=False).user(module, offsets)[0][-1].function.startswith("libwork.so+0x")


def test_kernel_addresses_have_the_names_of_proc_kallsyms() -> None:
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    functions = {int(words[0], 16): words for words in lines if words[1] in "tT"}
    if not any(functions):
        pytest.skip("kernel.kptr_restrict hides addresses")
    chosen = sorted(functions)[:: len(functions) // 500]
    chains = Symbolizer().kernel(np.array(chosen, np.uint64))
    assert [frame.function for (frame,) in chains] == [functions[address][2] for address in chosen]


@pytest.fixture
def contained(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process with another root, in a mount namespace of its own, and a library there.

    Its path is an absolute link, which leads to another file in our root.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can change the root directory")
    top = tmp_path / "root"
    library = tmp_path / "lib" / "libwork.so"  # in both roots
    inside = Path(f"{top}{library.parent}")
    for place, function in ((library.parent, "ours"), (inside, "theirs")):
        place.mkdir(parents=True)
        (place / "lib.c").write_text(f"int {function}(int x) {{ return x * 3; }}\n")
        real = place / "real.so"
        subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-o", real, place / "lib.c"], check=True)
        (place / "libwork.so").symlink_to(library.parent / "real.so")
    code = "import os, sys; os.chroot(sys.argv[1]); print('in', flush=True); sys.stdin.read()"
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-I", "-c", code, str(top)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "in\n":
            pytest.skip("no mount namespace can be made here")
        yield process.pid, library
        process.stdin.close()


def test_absolute_links_of_a_container_lead_to_its_own_files(contained: tuple[int, Path]) -> None:
    pid, library = contained
    elf = Elf(library, root=f"/proc/{pid}/root")
    table = elf.symbols(".symtab")
    assert table is not None
    value = next(int(e["value"]) for e in table.entries if table.name(int(e["name"])) == b"theirs")
    (frame,) = Symbolizer().user(Module(str(library), "", pid), elf.offsets_of(np.array([value], np.uint64)))[0]
    assert (frame.function, frame.line) == ("theirs", 1)
    ours = Symbolizer(live=False).user(Module(str(library)), elf.offsets_of(np.array([value], np.uint64)))
    assert [frame.function for frame in ours[0]] == ["ours"]


def test_attach_points_in_a_container_are_functions_of_its_own_files(contained: tuple[int, Path]) -> None:
    pid, library = contained
    words = [sys.executable, "-m", "insitu", "trace", "-p", str(pid), "-l", f"uprobe:{library}:*rs"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"uprobe:{library}:theirs"]
