"""What a process or a recording names is opened only if it is a regular file, in the process's own root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from insitu.convert.formats.perf_data import open_perf_data
from insitu.convert.open import load_stacks
from insitu.errors import InsituError
from insitu.foreign_files import open_foreign
from insitu.symbols.jit_map import read_jit_map
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

from .symbols_peer import compiled, recording_of


@pytest.fixture
def map_path() -> Iterator[Path]:
    """Where the map of a process is looked for; nothing is there yet."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        path = Path(f"/tmp/perf-{process.pid}.map")
        yield path
        path.unlink(missing_ok=True)
        process.kill()


def pid_of(map_path: Path) -> int:
    return int(map_path.stem.removeprefix("perf-"))


def test_a_link_in_place_of_a_map_is_not_followed(map_path: Path, tmp_path: Path) -> None:
    terminals = sorted(Path("/dev/pts").iterdir())
    (tmp_path / "secret").write_text("1000 100 secret\n")
    os.mkfifo(tmp_path / "pipe")
    for target in ("/dev/ptmx", tmp_path / "pipe", tmp_path / "secret"):
        map_path.unlink(missing_ok=True)
        map_path.symlink_to(target)
        assert read_jit_map(pid_of(map_path)) is None
    assert sorted(Path("/dev/pts").iterdir()) == terminals
    map_path.unlink()
    (tmp_path / "secret").rename(map_path)
    assert len(read_jit_map(pid_of(map_path)) or ()) == 1


def test_a_pipe_in_place_of_a_map_is_not_opened(map_path: Path) -> None:
    os.mkfifo(map_path)
    assert read_jit_map(pid_of(map_path)) is None


@pytest.mark.parametrize("name", ["/dev/ptmx", "/dev/full", "pipe"])
def test_a_device_or_pipe_that_a_recording_names_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    terminals = sorted(Path("/dev/pts").iterdir())
    path = tmp_path / name  # an absolute name stays as it is
    stacks = load_stacks(recording_of(tmp_path, path, [0x1000]))
    assert {frame.function for frame in stacks.frames if frame.module == str(path)} == {f"{path.name}+0x1000"}
    assert sorted(Path("/dev/pts").iterdir()) == terminals


def test_links_in_a_recording_of_another_root_lead_nowhere_else(tmp_path: Path) -> None:
    program = compiled(tmp_path, "int main(void) { return 0; }\n")
    (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/root{program}")
    (frame,) = Symbolizer().user(Module(str(tmp_path / "link")), np.array([0x1000], np.uint64))[0]
    assert not frame.symbolized


def test_a_recording_may_be_a_link_or_an_open_file_but_not_a_pipe(tmp_path: Path) -> None:
    program = compiled(tmp_path, "int main(void) { return 0; }\n")
    recording = recording_of(tmp_path, program, [0x1000])
    (tmp_path / "link").symlink_to(recording)
    assert len(open_perf_data(tmp_path / "link").attrs) == 1
    with os.fdopen(open_foreign(recording)) as file:
        assert len(open_perf_data(f"/proc/self/fd/{file.fileno()}").attrs) == 1
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InsituError, match="not a regular file"):
        load_stacks(tmp_path / "pipe")
