"""Too few descriptors or too little memory: one line that names the limit and the remedy, and no more."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.test_session import written

from insitu.convert.open import import_file, open_session
from insitu.errors import InsituError
from insitu.session import writer

COMMANDS = [
    "report {session}",
    "flame {session} -o {directory}/flame.html",
    "callgraph {session}",
    "diff {session} {session}",
    "export {session} --format folded -o {directory}/folded",
    "sql {session} 'from sample'",
    "import {folded} -o {directory}/imported.insitu",
]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    folded = tmp_path / "a.folded"
    folded.write_text("main;work 3\n")
    directory = tmp_path / "out"
    directory.mkdir()
    return {"session": written(tmp_path / "s.insitu"), "folded": folded, "directory": directory}


def limited(limit: str, words: str, places: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    given = {name: shlex.quote(str(path)) for name, path in places.items()}
    command = f"ulimit {limit}; exec {shlex.quote(sys.executable)} -m insitu {words.format(**given)}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("files", [5, 8, 12])
@pytest.mark.parametrize("words", COMMANDS)
def test_with_few_descriptors_a_command_works_or_names_the_limit(
    places: dict[str, Path], words: str, files: int
) -> None:
    done = limited(f"-n {files}", words, places)
    if done.returncode:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "Too many open files" in done.stderr
        assert f"(this process may open {files} files; raise that: ulimit -n 1024)" in done.stderr
        # What there was no descriptor left to remove, the next run removes.
        assert all(each.name.endswith(".partial") for each in places["directory"].iterdir())


# 90,000: numpy's own library would end the process. 400,000: numpy starts, DuckDB would not.
@pytest.mark.parametrize(("kib", "least"), [(90_000, 256), (120_000, 256), (400_000, 512)])
@pytest.mark.parametrize("words", COMMANDS)
def test_without_memory_a_command_names_the_limit(places: dict[str, Path], words: str, kib: int, least: int) -> None:
    done = limited(f"-v {kib}", words, places)
    assert done.returncode == 1
    assert done.stderr == (
        f"insitu: out of memory: {least} MiB of address space are needed"
        f" (this process may have {kib >> 10} MiB; raise that: ulimit -v unlimited)\n"
    )
    assert not list(places["directory"].iterdir())


def test_a_query_without_memory_for_its_rows_names_the_limit(places: dict[str, Path]) -> None:
    done = limited("-v 800000", "sql {session} 'from sample'", places)
    assert done.returncode == 1
    assert done.stderr.startswith("insitu: out of memory: 1024 MiB of address space are needed")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_names_the_session_and_leaves_nothing(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    """As import meets it while it writes tables."""

    def full(*words: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(words[1]))

    monkeypatch.setattr(writer, "write_part", full)
    output = places["directory"] / "imported.insitu"
    with pytest.raises(OSError, match="No space left") as error:
        import_file(places["folded"], output)
    assert error.value.filename == str(output)
    assert not list(places["directory"].iterdir())
    monkeypatch.setenv("TMPDIR", str(places["directory"]))
    with pytest.raises(InsituError, match=f"^{places['directory']}: No space left on device") as refused:
        open_session(places["folded"])
    assert "TMPDIR" in refused.value.remedy
    assert not list(places["directory"].iterdir())


def test_without_proc_a_session_is_not_called_damaged(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    opened = os.open

    def without_proc(path: str, flags: int, *words: int, **named: int) -> int:
        if str(path).startswith("/proc/self/fd/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return opened(path, flags, *words, **named)

    monkeypatch.setattr(os, "open", without_proc)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(InsituError, match="/proc is not mounted"):
        open_session(places["session"])
