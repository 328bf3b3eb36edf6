"""The cases of docs/cases about system calls: their very programs and commands show what their pages say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_PAGES = Path(__file__).parents[2] / "docs/cases"
_NAMES = ("silent-failure", "slow-start", "who-fills-the-log", "what-a-daemon-waits-for")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the pages show, and the programs made of them."""
    directory = tmp_path_factory.mktemp("cases")
    for page in _NAMES:
        text = (_PAGES / f"{page}.md").read_text()
        for name, content in re.findall(r"`([\w.]+)`:\n\n```\w*\n(.*?)```", text, re.DOTALL):
            (directory / name).write_text(content)
    for program in ("quiet", "slow"):
        subprocess.run(["gcc", "-o", directory / program, directory / f"{program}.c"], check=True)
    subprocess.run(["sh", "settings.sh"], cwd=directory, check=True)
    return directory


def _command(page: str, number: int) -> list[str]:
    """The words of a page's ``$ insitu ...`` command."""
    text = (_PAGES / f"{page}.md").read_text()
    found = re.findall(r"^\$ insitu (.*?(?:\n    .*?)*)$", text, re.MULTILINE)
    return shlex.split(found[number])


def _run(files: Path, words: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", *words]
    return subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


def test_the_search_order_of_a_program_that_says_nothing(files: Path) -> None:
    home = {**os.environ, "HOME": "/root"}
    done = _run(files, _command("silent-failure", 0), env=home)
    found = re.findall(r'^openat\(AT_FDCWD, "(.*?)".* = -1 (\w+) ', done.stderr, re.MULTILINE)
    assert found == [
        ("/root/.quietrc", "ENOENT"),
        ("/etc/quiet/quiet.conf", "ENOENT"),
        ("/etc/hostname/quiet.conf", "ENOTDIR"),
    ]
    assert done.returncode == 1
    assert _run(files, _command("silent-failure", 1), env=home).returncode == 0


def test_a_slow_start_is_four_sleeps_and_a_file_read_by_the_byte(files: Path) -> None:
    done = _run(files, _command("slow-start", 0))
    rows = {words[-1]: words for words in map(str.split, done.stderr.splitlines()) if len(words) > 6}
    assert int(rows["clock_nanosleep"][3]) == 4 and float(rows["clock_nanosleep"][1]) >= 0.4
    # A byte each, the end of the file, and the loader's own read of the C library.
    assert int(rows["read"][3]) == (files / "settings").stat().st_size + 2
    assert rows["connect"][3:5] == ["4", "4"]
    lines = _run(files, _command("slow-start", 1)).stderr
    assert re.findall(r"(connect|clock_nanosleep)\(", lines) == ["connect", "clock_nanosleep"] * 4


def test_the_bytes_of_a_log_by_process_are_its_size(files: Path) -> None:
    _run(files, _command("who-fills-the-log", 0), check=True)
    asked = _command("who-fills-the-log", 1)
    rows = [line.split("\t") for line in _run(files, asked, check=True).stdout.splitlines()[1:]]
    assert [calls for _, calls, _ in rows] == ["200", "3"]
    assert sum(int(size) for *_, size in rows) == (files / "service.log").stat().st_size
    printed = _run(files, _command("who-fills-the-log", 2), check=True).stdout
    assert len(re.findall(r"write\(1, ", printed)) == 203


def test_each_thread_of_a_daemon_is_in_the_call_that_it_waits_in(files: Path) -> None:
    with subprocess.Popen([sys.executable, "daemon.py"], cwd=files, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        words = _command("what-a-daemon-waits-for", 0)
        options = words[: words.index("-p")]
        shown = _run(files, [*options, "-p", str(daemon.pid)]).stderr
        daemon.kill()
    assert re.search(r"clock_nanosleep\(CLOCK_MONOTONIC, TIMER_ABSTIME, \{tv_sec=", shown)
    assert re.search(r"accept4?\(3<socket:\[\d+\]>", shown)
    assert f'openat(AT_FDCWD<{files}>, "jobs", O_RDONLY|O_CLOEXEC' in shown
    assert re.search(r"futex\(0x\w+, FUTEX_WAIT_BITSET_PRIVATE\|FUTEX_CLOCK_REALTIME, 0, NULL, ", shown)
