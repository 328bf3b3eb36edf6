"""The command line itself: complaints of one line, closed and full outputs, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

INSITU = [sys.executable, "-m", "insitu"]


@pytest.fixture
def folded(tmp_path):
    path = tmp_path / "run.folded"
    path.write_text("prog;main;work 10\n")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["report", "--nope", "x"],
        ["report", "x", "--limit", "-1"],
        ["report", "x", "--min-percent", "nan"],
        ["callgraph", "x", "--edge-thres", "101"],
        ["flame", "x", "--thread", "one"],
        ["diff", "x"],
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(words):
    done = subprocess.run([*INSITU, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1 and "--help" in done.stderr


@pytest.mark.parametrize("words", [["report"], ["report", "--folded"], ["flame", "-o", "-"], ["callgraph"]])
@pytest.mark.parametrize(("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")])
def test_an_output_that_takes_nothing_is_told_in_one_line(folded, words, redirection, reason):
    command = ["sh", "-c", f'"$@" {redirection}', "sh", *INSITU, *words, folded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"insitu: standard output: {reason}") and done.stderr.count("\n") == 1


def test_all_standard_streams_may_be_closed(folded, tmp_path):
    page = tmp_path / "x.folded"
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *INSITU, "export", folded, "-o", page]
    assert subprocess.run(command, timeout=60).returncode == 0
    assert page.read_text() == "prog;main;work 10\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_and_its_temporary_files(number, status, tmp_path):
    """`import -` keeps what comes from standard input in a file while it waits for more."""
    command = [*INSITU, "import", "-", "-o", tmp_path / "x.insitu"]
    files = tmp_path / "temporary"
    files.mkdir()
    environment = os.environ | {"TMPDIR": str(files)}
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=_hear_all
    )
    while not list(files.iterdir()):
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(number)
    assert program.wait(60) == status
    program.stdin.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert not list(files.iterdir()) and not (tmp_path / "x.insitu").exists()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _hear_all() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    "words",
    [
        ["-F", str(1 << 64)],
        ["-m", str(1 << 63)],
        ["-d", "nan"],
        ["-d", "inf"],
        ["-d", "-1"],
        ["--stacks", "dwarf,\N{SUPERSCRIPT TWO}"],
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_recorded(words, tmp_path):
    output = tmp_path / "x.insitu"
    done = subprocess.run(
        [*INSITU, "profile", "-o", output, *words, "--", "true"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_query_that_would_take_minutes(folded, number, status):
    query = "select count(*) from range(100000000000) where range % 7 = 3"
    program = subprocess.Popen([*INSITU, "sql", folded, query], stderr=subprocess.PIPE, preexec_fn=_hear_all)
    # Starting takes less than a second of CPU time.
    while _cpu_seconds(program.pid) < 3:
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (status, b"")
