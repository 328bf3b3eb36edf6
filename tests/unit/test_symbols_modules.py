"""Which file stands for a mapped one: deleted, replaced, of another namespace, or gone."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from insitu.symbols.elf import Elf
from insitu.symbols.frame import Frame
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

from .symbols_peer import compiled

PROGRAM_C = """
#include <unistd.h>
int work(int x) { return x * FACTOR; }
int main(int argc, char **argv) { write(1, "!", 1); pause(); return work(argc); }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compiled(tmp_path, PROGRAM_C, "-DFACTOR=3", "-Wl,--build-id")


@pytest.fixture
def running(program: Path) -> Iterator[int]:
    """The process id of the program, waiting in main."""
    process = subprocess.Popen([str(program)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"
    yield process.pid
    process.kill()
    process.communicate()


def work_offset(path: Path) -> np.ndarray:
    elf = Elf(path)
    table = elf.symbols(".symtab")
    assert table is not None
    value = next(int(e["value"]) for e in table.entries if table.name(int(e["name"])) == b"work")
    return elf.offsets_of(np.array([value + 1], np.uint64))


def named(module: Module, offsets: np.ndarray, *, live: bool = True) -> str:
    ((frame,),) = Symbolizer(live=live).user(module, offsets)
    assert frame.module == module.path
    return frame.function


def test_a_deleted_program_is_read_from_the_process_that_runs_it(program: Path, running: int) -> None:
    offsets, build_id = work_offset(program), Elf(program).build_id
    program.unlink()
    module = Module(f"{program} (deleted)", build_id, running)
    assert named(module, offsets) == "work"
    assert named(module._replace(build_id=""), offsets) == "work"
    assert named(module, offsets, live=False) == f"prog+{int(offsets[0]):#x}"


def test_a_deleted_library_is_read_from_the_process_that_maps_it(tmp_path: Path) -> None:
    library = compiled(tmp_path, "int work(int x) { return x * 3; }\n", "-shared", "-fPIC", name="libwork.so")
    offsets = work_offset(library)
    source = PROGRAM_C.replace("{ return x * FACTOR; }", ";")
    program = compiled(tmp_path, source, "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{tmp_path}")
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1) == b"!"
        library.unlink()
        try:
            name = named(Module(f"{library} (deleted)", pid=process.pid), offsets)
        finally:
            process.kill()
    if name != "work":
        pytest.skip("/proc/PID/map_files may not be read here (CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN)")


def test_a_deleted_program_whose_process_is_gone_is_shown_as_module_and_offset(program: Path) -> None:
    offsets, build_id = work_offset(program), Elf(program).build_id
    other = compiled(program.parent, PROGRAM_C, "-DFACTOR=4", "-Wl,--build-id", name="other")
    other.replace(program)
    for module in (Module(f"{program} (deleted)", build_id), Module(f"{program} (deleted)")):
        assert named(module, offsets) == f"prog+{int(offsets[0]):#x}"


def test_a_program_that_was_rebuilt_since_is_not_taken_for_the_recorded_one(program: Path) -> None:
    offsets, build_id = work_offset(program), Elf(program).build_id
    assert named(Module(str(program), build_id), offsets) == "work"
    compiled(program.parent, PROGRAM_C, "-DFACTOR=4", "-Wl,--build-id")
    assert Elf(program).build_id != build_id
    assert named(Module(str(program), build_id), offsets) == f"prog+{int(offsets[0]):#x}"
    assert named(Module(str(program)), offsets) == "work"


def test_a_program_kept_in_the_cache_of_perf_is_found_by_build_id(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets, build_id = work_offset(program), Elf(program).build_id
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = tmp_path / ".debug" / ".build-id" / build_id[:2] / build_id[2:] / "elf"
    kept.parent.mkdir(parents=True)
    program.rename(kept)
    assert named(Module("/gone/prog", build_id), offsets) == "work"


def test_places_that_no_symbol_covers_stay_visible(program: Path) -> None:
    far = np.array([1 << 33], np.uint64)
    assert named(Module(str(program)), far) == "prog+0x200000000"
    assert named(Module("/no/such/libfoo.so.1"), np.array([0x1234], np.uint64)) == "libfoo.so.1+0x1234"
    assert named(Module("relative/name"), np.array([0x10], np.uint64)) == "name+0x10"


def test_what_is_not_an_elf_file_is_shown_as_module_and_offset(tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n")
    assert named(Module(str(script)), np.array([0x10], np.uint64)) == "script.sh+0x10"


@pytest.mark.parametrize("options", [("-no-pie",), ("-pie", "-fPIE"), ("-no-pie", "-Wl,-z,noseparate-code")])
def test_a_program_that_is_gone_has_the_names_and_lines_of_its_debug_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    program = compiled(tmp_path, PROGRAM_C, "-g", "-DFACTOR=3", "-Wl,--build-id", *options)
    offsets, build_id = work_offset(program), Elf(program).build_id
    (vaddr,) = Elf(program).vaddrs_of(offsets).tolist()
    words = ["addr2line", "-e", str(program), hex(vaddr)]
    peer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    listed = subprocess.run(["readelf", "-lW", str(program)], capture_output=True, text=True, check=True).stdout
    (mapped_from,) = re.findall(r"LOAD +0x(\S+) .* R E ", listed)
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    (tmp_path / "cache" / build_id).mkdir(parents=True)
    debug = tmp_path / "cache" / build_id / "debuginfo"
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(debug)], check=True)
    program.unlink()
    module = Module(str(program), build_id, code_offset=int(mapped_from, 16) & ~0xFFF)
    ((frame,),) = Symbolizer().user(module, offsets)
    assert (frame.function, f"{frame.file}:{frame.line}") == ("work", peer)
    assert named(module._replace(build_id=build_id[::-1]), offsets) == f"prog+{int(offsets[0]):#x}"


def test_a_program_that_debuginfod_left_here_is_found_by_build_id(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets, build_id = work_offset(program), Elf(program).build_id
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    (tmp_path / "cache" / build_id).mkdir(parents=True)
    program.rename(tmp_path / "cache" / build_id / "executable")
    assert named(Module("/gone/prog", build_id), offsets) == "work"


def test_a_program_in_a_memfd_has_its_names_and_keeps_those_of_its_mapping(program: Path) -> None:
    offsets = work_offset(program)
    memory = os.memfd_create("hidden")
    os.write(memory, program.read_bytes())
    with subprocess.Popen([f"/proc/self/fd/{memory}"], pass_fds=[memory], stdout=subprocess.PIPE) as process:
        os.close(memory)
        assert process.stdout is not None and process.stdout.read(1) == b"!"
        (line, *_) = [each for each in Path(f"/proc/{process.pid}/maps").read_text().splitlines() if " r-xp " in each]
        name = line.split(None, 5)[5]
        assert name == "/memfd:hidden (deleted)"
        module = Module(name, pid=process.pid)
        assert named(module, offsets) == "work"
        process.kill()
    ((gone,),) = Symbolizer().user(module, offsets, offsets)
    assert gone == Frame(f"memfd:hidden+{int(offsets[0]):#x}", name, symbolized=False)


def test_code_that_a_jit_compiler_wrote_into_a_memfd_has_the_names_of_its_map() -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("7f0000001000 80 LazyCompile:hot\n")
    try:
        module = Module("/memfd:code (deleted)", pid=os.getpid())
        offsets = np.array([0x20, 0x200], np.uint64)
        found = Symbolizer().user(module, offsets, offsets + np.uint64(0x7F0000001000))
    finally:
        path.unlink()
    assert [frame.function for (frame,) in found] == ["LazyCompile:hot", "memfd:code+0x200"]


def test_frames_say_whether_a_symbol_named_them(program: Path) -> None:
    symbolizer = Symbolizer(kallsyms=b"ffffffff81000000 T _stext\n")
    ((known,), (unknown,)) = symbolizer.user(
        Module(str(program)), np.append(work_offset(program), np.uint64(1 << 33))
    )
    ((kernel,), (nowhere,)) = symbolizer.kernel(np.array([0xFFFFFFFF81000010, 0xFFFFFFFF90000000], np.uint64))
    ((anonymous,),) = symbolizer.anonymous(0, np.array([0x1000], np.uint64))
    frames = (known, unknown, kernel, nowhere, anonymous)
    assert [frame.symbolized for frame in frames] == [True, False, True, False, False]
