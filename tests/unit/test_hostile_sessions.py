"""A session that somebody sent: opening it changes nothing, reads nothing else, and waits for nobody."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.sessions import waits_session

from insitu.convert.sources import LAYOUT
from insitu.kernel import procfs
from insitu.record.row_log import RowLog
from insitu.session.directory import create, is_private
from insitu.session.manifest import MANIFEST, RECORDING, Manifest
from insitu.session.schema import Column, Table

REQUEST = Table("event.request", "", (Column("ts_ns", "timestamp"), Column("took_ns", "duration")))
READING = [
    ("report",),
    ("sql", "from event.request"),
    ("export", "--format", "folded", "-o", "-"),
    ("report", "--folded"),
]


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A session whose recorder died: three rows, not converted."""
    path = tmp_path / "mailed.insitu"
    create(path, Manifest.here(procfs, command=["server"], state=RECORDING, recorder_pid=2**22 + 1), procfs)
    source = path / "raw/requests"
    source.mkdir()
    log = RowLog(REQUEST)
    (source / LAYOUT).write_text(json.dumps(log.layout))
    log.open(source)
    for number in range(3):
        log.append(ts_ns=number, took_ns=number)
    log.write()
    log.close()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    (path / ".bashrc").write_text("mine\n")
    return path


def insitu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "insitu", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr
    return done


def contents(directory: Path) -> dict[str, object]:
    """Everything below a directory: what it is, and what it holds."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = path.lstat().st_mode
    return found


LINKS = {
    "session.partial": ".bashrc",
    ".session.json.partial": ".bashrc",
    "tables": "",
    "raw": "",
    "tables/event.request": "",
    "tables/event.request/0.parquet": ".bashrc",
    "tables/event.request/0.partial": ".bashrc",
    "raw/requests": "",
    "raw/requests/layout.json": ".bashrc",
    "raw/requests/rows.records": ".bashrc",
    "raw/kallsyms": ".bashrc",
    "session.json": ".bashrc",
}


@pytest.mark.parametrize("name", LINKS)
def test_links_in_a_dead_session_lead_nowhere(dead: Path, target: Path, name: str) -> None:
    place = dead / name
    kept = target / "kept"
    if place.exists():  # the link leads to what would be there, so that only the link is wrong
        place.rename(kept)
        link = kept
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        link = target / LINKS[name]
    place.symlink_to(link)
    before = contents(target)
    for words in READING:
        done = insitu(words[0], dead, *words[1:])
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        assert "mine" not in done.stdout
    assert contents(target) == before


@pytest.mark.parametrize("name", ["tables", "tables/event.blocked", "tables/event.blocked/0.parquet", "session.json"])
def test_links_in_a_whole_session_are_not_followed(tmp_path: Path, target: Path, name: str) -> None:
    session = waits_session(tmp_path / "mailed.insitu")
    (session / name).rename(target / "kept")
    (session / name).symlink_to(target / "kept")
    done = insitu("report", session)
    assert done.returncode == 1
    assert done.stderr.startswith(f"insitu: {session / name}")
    assert done.stderr.endswith(": a symbolic link leads there, which is not followed\n")


@pytest.mark.parametrize(
    "name", ["session.json", "raw/requests/layout.json", "raw/requests/end.json", "raw/requests/rows.records"]
)
@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "absent"])
def test_what_is_no_file_is_named_and_not_waited_for(dead: Path, name: str, kind: str) -> None:
    (dead / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(dead / name)
    elif kind == "directory":
        (dead / name).mkdir()
    elif kind == "device":
        if os.geteuid():
            pytest.skip("only root makes devices")
        os.mknod(dead / name, 0o020600, os.makedev(5, 2))  # /dev/ptmx
    done = insitu("report", dead)
    assert len(done.stderr.splitlines()) <= 1
    if name != "raw/requests/end.json" and kind != "absent":
        assert done.returncode == 1
        assert name in done.stderr


@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_a_table_that_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    session = waits_session(tmp_path / "mailed.insitu")
    file = session / "tables/event.blocked/0.parquet"
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    done = insitu("report", session)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"insitu: {file}: ")


def test_a_dead_session_of_ours_is_converted_where_it_lies(dead: Path) -> None:
    assert is_private(dead)
    assert "3" in insitu("sql", dead, "select count(*) from event.request").stdout
    assert Manifest.read(dead).state == "complete"
    assert not (dead / "raw").exists()


@pytest.mark.parametrize("part", [".", "raw", "raw/requests", "tables", ".."])
def test_a_dead_session_that_others_can_write_to_stays_as_it_is(dead: Path, tmp_path: Path, part: str) -> None:
    moved = tmp_path / "outer/mailed.insitu"
    moved.parent.mkdir()
    dead.rename(moved)
    (moved / part).chmod(0o777)
    assert not is_private(moved)
    before = contents(moved)
    assert "3" in insitu("sql", moved, "select count(*) from event.request").stdout
    assert contents(moved) == before


def test_a_lock_that_is_never_given_up_is_not_waited_for(dead: Path) -> None:
    dead.chmod(0o777)
    with subprocess.Popen(["flock", str(dead), "sh", "-c", "echo; read x"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout and holder.stdout.readline() == b"\n"
        assert "3" in insitu("sql", dead, "select count(*) from event.request").stdout
        holder.communicate(b"\n")


def test_a_copied_session_with_a_damaged_manifest_says_so(dead: Path) -> None:
    (dead / MANIFEST).write_text("[]")
    shutil.copytree(dead, dead.with_name("copy.insitu"))
    assert insitu("report", dead.with_name("copy.insitu")).returncode == 1


@pytest.mark.parametrize("part", [slice(-8, None), slice(4, 200)])
@pytest.mark.parametrize("command", ["report", "sql", "export"])
def test_a_damaged_table_is_one_plain_line(tmp_path: Path, command: str, part: slice) -> None:
    path = waits_session(tmp_path / "run.insitu")
    table = path / "tables/event.blocked/0.parquet"
    whole = bytearray(table.read_bytes())
    whole[part] = bytes(byte ^ 0x55 for byte in whole[part])
    table.write_bytes(whole)
    more = {"report": (), "sql": ("from event.blocked",), "export": ("--format", "folded", "-o", "-")}[command]
    done = insitu(command, path, *more)
    assert done.returncode == 1
    message = f"insitu: ({table}|{path}): damaged: the file cannot be read \\(copy the session whole again, .*\\)\n"
    assert re.fullmatch(message, done.stderr)
