"""Ready programs on a command or process: whose events they report, and which they refuse to be about."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from insitu.probe.bpftrace.scripts import PROGRAMS

from .tracing import run_trace

_CPUS = "import os; cpus = sorted(os.sched_getaffinity(0))[:2]\n"
_MOVES = _CPUS + "for n in range(20): os.sched_setaffinity(0, [cpus[n % 2]])\n"
_CHILD_MOVES = "import subprocess, sys\n"
_CHILD_MOVES += "if not sys.argv[1:]: sys.exit(subprocess.call([sys.executable, __file__, 'x']))\n" + _MOVES


def _rows(label: str, *words: str) -> list[dict[str, Any]]:
    lines = run_trace("--json", *words).stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [each["data"] for each in found if each["type"] == "event" and each["label"] == label]


def _shell(*commands: str) -> list[str]:
    return ["--", "sh", "-c", "; ".join(commands)]


@contextmanager
def _another(script: str) -> Iterator[int]:
    """A process that has nothing to do with what is traced."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", f"while True:\n {script}"]) as other:
        try:
            yield other.pid
        finally:
            other.kill()


def test_migrations_of_a_command_are_its_childs_and_nobody_elses(tmp_path: Path) -> None:
    program = tmp_path / "moves.py"
    program.write_text(_CHILD_MOVES)
    with _another("import os; os.sched_setaffinity(0, [0]); os.sched_setaffinity(0, [1])"):
        rows = _rows("migration", "migrations", "--", sys.executable, str(program))
    ends = [(row["from"], row["to"]) for row in rows]
    assert ends[-19:] in ([(0, 1), (1, 0)] * 9 + [(0, 1)], [(1, 0), (0, 1)] * 9 + [(1, 0)]), ends
    assert all(row["name"].startswith("python") for row in rows)


def test_migrations_of_p_are_those_of_the_parameter() -> None:
    for given in (["migrations", "-p"], ["migrations"]):
        gate = "import sys; sys.stdin.readline()\n"
        with subprocess.Popen([sys.executable, "-c", gate + _MOVES + gate], stdin=subprocess.PIPE) as moving:
            words = [sys.executable, "-m", "insitu", "trace", "--json", *given, str(moving.pid)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tracing:
                assert tracing.stdout is not None and moving.stdin is not None
                assert "attached_probes" in tracing.stdout.readline()
                moving.stdin.write(b"\n")
                moving.stdin.flush()
                rows = []
                while len(rows) < 19:
                    rows.append(json.loads(tracing.stdout.readline())["data"])
                tracing.send_signal(signal.SIGINT)
                tracing.communicate()
            moving.communicate(b"\n")
        assert {row["thread"] for row in rows} == {moving.pid}


def test_a_copy_of_a_program_takes_a_process_too(tmp_path: Path) -> None:
    copy = tmp_path / "mine.bt"
    copy.write_text((PROGRAMS / "wakeups.bt").read_text())
    with _another("import time; time.sleep(0.01)") as sleeping, _another("import time; time.sleep(0.01)"):
        for words in ([str(sleeping)], ["-p", str(sleeping)]):
            text = run_trace("-d", "1", str(copy), *words).stdout
            rows = re.findall(r"^@wakeups\[.+, (\d+), .+, (\d+)\]: (\d+)$", text, re.M)
            assert rows and all(str(sleeping) in row[:2] for row in rows), text
            assert sum(int(row[2]) for row in rows if row[1] == str(sleeping)) >= 20


def test_exits_of_a_command_are_those_of_all_its_descendants_and_its_own() -> None:
    nested = "sh -c 'sh -c \"exit 4\"; exit 3'"
    shell = _shell(nested, "sh -c 'kill -9 $$'", "/bin/true", "exit 5")
    lines = subprocess.run(
        [sys.executable, "-m", "insitu", "trace", "--json", "exits", *shell], capture_output=True, text=True
    )
    assert lines.returncode == 5, lines.stderr
    found = [json.loads(line) for line in lines.stdout.splitlines() if line.startswith("{")]
    rows = [each["data"] for each in found if each["type"] == "event"]
    assert [(row["status"], row["signal"]) for row in rows] == [(4, 0), (3, 0), (0, 9), (0, 0), (5, 0)]


def test_opens_of_a_command_are_those_of_its_children() -> None:
    with _another("open('/etc/group').close()"):
        rows = _rows("open", "opens", *_shell("cat /etc/hostname /no/such/file >/dev/null 2>&1", "exit 0"))
    paths = {row["path"]: row for row in rows}
    assert "/etc/group" not in paths and paths["/etc/hostname"]["name"] == "cat"
    assert paths["/no/such/file"]["error"] == 2


@pytest.mark.parametrize("name", ["faults", "capable", "execs", "syscalls", "opens"])
def test_what_insitu_did_before_the_exec_is_not_the_commands(name: str) -> None:
    text = run_trace(name, "--", "chroot", "/", "/bin/true").stdout
    names = set(re.findall(r"\b(?:true|chroot|insitu|python\S*)\b", text))
    assert "true" in names and not names & {"insitu", "python", "python3"}, text


def test_faults_of_a_command_are_those_of_its_children_too() -> None:
    touch = "x = bytearray(8 << 20)"  # 2048 pages of 4 KiB
    rows = _rows("fault", "faults", *_shell(f"{sys.executable} -I -S -c '{touch}'", "exit 0"))
    pages = sum(row["name"].startswith("python") for row in rows)
    assert 2048 <= pages <= 2048 + 6000, pages


def test_signals_of_a_command_have_its_childrens() -> None:
    rows = _rows("signal", "signals", *_shell("sh -c 'kill -10 $$'", "exit 0"))
    assert [(row["signal"], row["sender"]) for row in rows if row["signal"] == 10] == [(10, "sh")]


def test_calls_are_named_as_the_kernels_table_has_them() -> None:
    script = "import os\nfor _ in range(123): os.getppid()"
    text = run_trace("syscalls", "--", sys.executable, "-I", "-S", "-c", script).stdout
    assert re.search(r"^@calls\[python\S*, getppid\]: 123$", text, re.M), text


def test_equal_checks_of_a_capability_are_one_line_and_a_count() -> None:
    script = "import os\nfor _ in range(50): os.chroot('/')"
    text = run_trace("capable", "--", sys.executable, "-I", "-S", "-c", script).stdout
    lines = [line for line in text.splitlines() if line.endswith(" SYS_CHROOT")]
    assert len(lines) == 1
    assert re.search(r"^@checks\[\d+, python\S*, SYS_CHROOT, 0\]: 50$", text, re.M), text


def test_a_program_is_named_once_and_fits_80_columns() -> None:
    text = run_trace("execs", *_shell("/bin/echo one two >/dev/null", "exit 0")).stdout
    (line,) = [line for line in text.splitlines() if "one two" in line and " -c " not in line]
    assert line.split()[3:] == ["echo", "/bin/echo", "one", "two"]
    assert line.index("/bin/echo") <= 42


@pytest.mark.parametrize("name", ["runqlat", "schedlat", "cpudist"])
def test_a_program_of_the_scheduler_takes_a_command(name: str) -> None:
    assert len(run_trace(name, *_shell("sleep 0.1", "exit 0")).stdout.strip().splitlines()) >= 2


def test_offcpu_of_a_command_has_the_time_that_its_child_slept() -> None:
    text = run_trace("offcpu", *_shell("sleep 0.3", "exit 0")).stdout
    slept = re.findall(r"do_nanosleep.*?\]: (\d+)", text, re.S)
    assert len(slept) == 1 and 300_000_000 <= int(slept[0]) < 3_000_000_000


_CONNECTION = """import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
accepted, _ = server.accept()
accepted.sendall(bytes(1000))
client.recv(2000)
client.close(); accepted.close()
"""


def test_connections_of_a_command_are_its_childs_and_nobody_elses(tmp_path: Path) -> None:
    program = tmp_path / "connects.py"
    program.write_text(_CONNECTION)
    shell = _shell(f"{sys.executable} -I -S {program}", "exit 0")
    with _another(f"exec(open({str(program)!r}).read())") as other:
        for name, label, ends in (
            ("tcpconnect", "connect", 1),
            ("tcpaccept", "accept", 1),
            ("tcplife", "connection", 2),
        ):
            rows = _rows(label, name, *shell)
            assert len(rows) == ends and all(row.get("process", row["pid"]) != other for row in rows), rows


_WHOLE = ["biolatency", "btt", "biopattern", "hardirqs", "softirqs", "tcpretrans", "runqlen", "steal", "writeback"]


@pytest.mark.parametrize("name", _WHOLE)
def test_a_program_of_the_whole_machine_refuses_a_command_and_a_process(name: str) -> None:
    for words, remedy in ((["--", "true"], "-a: the whole machine"), (["-p", "1"], "leave out -p")):
        refused = run_trace(name, *words, status=2).stderr
        assert refused.startswith(f"insitu: {name} is about the whole machine, not one process: ")
        assert remedy in refused and refused.count("\n") == 1


def test_a_program_that_follows_no_children_says_so() -> None:
    for name in ("mallocs", "fdleak"):
        done = run_trace(name, "--", "true", quiet=False)
        assert done.stderr == "insitu: only true itself is traced, not its children\n"


@pytest.mark.parametrize("name", ["execs", "migrations"])
def test_what_is_no_process_is_refused_in_a_line(name: str) -> None:
    refused = run_trace(name, "make", status=2).stderr
    assert (
        refused.startswith(f"insitu: {name} takes the number of a process, not 'make'") and refused.count("\n") == 1
    )


def test_addresses_of_locks_are_in_hex(tmp_path: Path) -> None:
    script = "import threading\nlock = threading.Lock(); lock.acquire()\nprint(lock.acquire(timeout=0.05))"
    text = run_trace("futexes", "--", sys.executable, "-I", "-S", "-c", script).stdout
    assert re.search(r"^@waits\[\d+, 0x[0-9a-f]+,", text, re.M) and not re.search(r"^@waits\[\d+, \d{5,}", text, re.M)


@pytest.mark.parametrize("name", ["opens", "faults", "execs"])
def test_all_programs_begin_with_the_same_words(name: str) -> None:
    assert re.match(r"Attached \d+ probes\n", run_trace(name, "--", "true", quiet=False).stdout)
