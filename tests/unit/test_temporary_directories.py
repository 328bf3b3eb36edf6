"""Directories that a killed process leaves are removed by the next; those in use, and those of others, stay."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import insitu
from insitu.kernel import procfs
from insitu.session.directory import create, created_whole
from insitu.session.manifest import Manifest
from insitu.temporary_directories import TemporaryDirectory

KILLED = "; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
IMPORT = """
from pathlib import Path
from insitu.kernel import procfs
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
with created_whole(Path("s.insitu"), Manifest.here(procfs), procfs):
    pass"""


def killed_while(script: str, directory: Path, **environment: str) -> None:
    """Run Python code that ends in the middle of its last line."""
    done = subprocess.run([sys.executable, "-c", script + KILLED], cwd=directory, env={**os.environ, **environment})
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("make", [create, created_whole])
def test_the_next_session_of_that_name_removes_what_a_killed_one_left(tmp_path: Path, make: object) -> None:
    killed_while(IMPORT, tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".s.insitu.")
    others = [tmp_path / ".t.insitu.0123456789ab.partial", tmp_path / ".s.insitu.thesis.partial"]
    for other in others:
        other.mkdir()
    if make is create:
        create(tmp_path / "s.insitu", Manifest.here(procfs), procfs)
    else:
        with created_whole(tmp_path / "s.insitu", Manifest.here(procfs), procfs):
            pass
    assert set(tmp_path.iterdir()) == {tmp_path / "s.insitu", *others}


def test_the_next_opened_file_removes_what_a_killed_command_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = tmp_path / "a.folded"
    folded.write_text("main;work 3\n")
    home = tmp_path / "tmp"
    home.mkdir()
    killed_while(f"import insitu; session = insitu.open({str(folded)!r})", tmp_path, TMPDIR=str(home))
    assert len(list(home.iterdir())) == 1
    monkeypatch.setenv("TMPDIR", str(home))
    with insitu.open(folded) as session:
        assert [each.name for each in home.iterdir()] == [session.path.parent.name]
        assert session.stacks().total_count == 3
    assert not list(home.iterdir())


def test_a_directory_in_use_stays(tmp_path: Path) -> None:
    first = TemporaryDirectory(str(tmp_path), "a-", "")
    second = TemporaryDirectory(str(tmp_path), "a-", "")
    assert {str(each) for each in tmp_path.iterdir()} == {first.path, second.path}
    first.remove()
    second.remove()


def test_a_link_of_such_a_name_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis").touch()
    (tmp_path / "a-0123456789ab").symlink_to(kept)
    TemporaryDirectory(str(tmp_path), "a-", "").remove()
    assert (kept / "thesis").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_stays(tmp_path: Path) -> None:
    other = tmp_path / "a-0123456789ab"
    other.mkdir()
    os.chown(other, 65534, 65534)
    TemporaryDirectory(str(tmp_path), "a-", "").remove()
    assert other.exists()


def test_without_a_place_for_it_an_opened_file_is_refused_in_one_line(tmp_path: Path) -> None:
    folded = tmp_path / "a.folded"
    folded.write_text("main;work 3\n")
    command = [sys.executable, "-m", "insitu", "sql", str(folded), "from sample"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "absent")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == (
        f"insitu: {tmp_path}/absent: no temporary directory can be made: No such file or directory"
        " (set TMPDIR to another directory)\n"
    )
