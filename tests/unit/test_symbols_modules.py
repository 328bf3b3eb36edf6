"""Which file stands for a mapped one: deleted, replaced, of another namespace, or gone."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from insitu.symbols.elf import Elf
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


def test_what_is_no_elf_file_is_shown_as_module_and_offset(tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n")
    assert named(Module(str(script)), np.array([0x10], np.uint64)) == "script.sh+0x10"
