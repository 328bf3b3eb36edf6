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


OPENING = ["delays -- true", "stat -- true", "top --web", "timeline --serve {session}", "lab ps", "proc 1"]


@pytest.mark.parametrize("files", [5, 20])
@pytest.mark.parametrize("words", COMMANDS + OPENING)
def test_with_few_descriptors_every_command_names_the_limit_and_does_nothing(
    places: dict[str, Path], words: str, files: int
) -> None:
    done = limited(f"-n {files}", words, places)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "insitu: Too many open files: 32 more are needed"
        f" (this process may open {files} files; raise that: ulimit -n 1024)\n"
    )
    assert not list(places["directory"].iterdir())


# With 3 or 4, Python itself does not start.
@pytest.mark.parametrize("files", range(5, 21))
def test_the_limit_is_named_however_low_it_is(places: dict[str, Path], files: int) -> None:
    done = limited(f"-n {files}", "sql {session} 'from sample'", places)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("insitu: Too many open files: ")


# Enough for the start, and few for what comes then.
@pytest.mark.parametrize("files", [35, 40])
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


EXHAUSTED = """
import os, resource, sys
import insitu.kernel.taskstats, insitu.inspect.socket_list, insitu.lab.qmp, asyncio.selector_events
import pyroute2, qemu.qmp, pyroute2.netlink.generic, pyroute2.netlink.diag, pyroute2.netlink.taskstats
from insitu.errors import InsituError
from pathlib import Path
soft = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
calls = {
    "delays": insitu.kernel.taskstats.TaskStats,
    "sockets": lambda: insitu.inspect.socket_list.sockets_of(os.getpid()),
    "qmp": lambda: insitu.lab.qmp.Qmp(Path("/nonexistent")),
}
try:
    calls[sys.argv[2]]()
except InsituError as error:
    print(error)
"""


@pytest.mark.parametrize("left", [1, 3, 5, 7])
@pytest.mark.parametrize("what", ["delays", "sockets", "qmp"])
def test_an_event_loop_without_descriptors_leaves_no_traceback(what: str, left: int) -> None:
    words = [sys.executable, "-c", EXHAUSTED, str(left), what]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Too many open files: 8 more are needed (this process may open ")


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
