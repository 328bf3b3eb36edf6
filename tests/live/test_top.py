"""Figures of `insitu top` against programs that do a known number of things; only those are shown."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.live.unprivileged import Unprivileged, unprivileged
from tests.terminal import INSITU, on_terminal, shown_text

import insitu

from .tracing import wait_until

__all__ = ["unprivileged"]

_CALLS = 20_000
_COUNTED = f"""
import os, sys
for line in sys.stdin:
    for _ in range({_CALLS}): os.getppid()
    print("done", flush=True)
"""
_NAPS = "import time\nwhile True: time.sleep(0.01)"
_BURN = """
volatile unsigned long x;
__attribute__((noinline)) void burns_here(void) { for (unsigned long i = 0; i < 100000000; i++) x += i; }
int main(void) { for (;;) burns_here(); }
"""


@contextmanager
def running(*command: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(list(map(str, command)), text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ticks(*words: object, interval: float = 0.25) -> Iterator[Iterator[dict[str, Any]]]:
    """The ticks of `insitu top --json`, as they come."""
    command = [*INSITU, "top", "--json", "--interval", interval, *words]
    with running(*command, stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        yield map(json.loads, top.stdout)


def burner(directory: Path) -> Path:
    (directory / "burn.c").write_text(_BURN)
    subprocess.run(["gcc", "-O1", "-o", directory / "burn", directory / "burn.c"], check=True)
    return directory / "burn"


def run_ns(pid: int) -> int:
    """How long the scheduler says that a thread was on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def used(rows: list[tuple[dict[str, Any], float]], name: str) -> float:
    """The seconds that a share adds up to in rows with the lengths of their ticks."""
    return sum((row[name] or 0.0) * dur for row, dur in rows)


def test_calls_are_counted_and_belong_to_the_process_that_made_them() -> None:
    with running(sys.executable, "-S", "-c", _COUNTED, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        print(file=program.stdin, flush=True)
        assert program.stdout.readline() == "done\n"
        with ticks(program.pid) as coming:
            next(coming)  # it counts by now
            for _ in range(3):
                print(file=program.stdin, flush=True)
            total = by_process = 0.0
            while by_process < 3 * _CALLS:
                tick = next(coming)
                total += tick["calls"] * tick["dur_s"]
                by_process += sum(row["calls"] * tick["dur_s"] for row in tick["processes"])
            tick = next(coming)
            total += tick["calls"] * tick["dur_s"]
        assert abs(total - by_process) < 100
        assert 3 * _CALLS <= total < 3 * _CALLS + 100  # and reading and writing the lines


def test_a_program_that_never_sleeps_runs_or_waits_for_a_cpu(tmp_path: Path) -> None:
    with running(burner(tmp_path)) as program:
        for words in ([], ["--no-bpf"]):
            before = run_ns(program.pid)
            with ticks(program.pid, "--ticks", 4, *words, interval=1) as coming:
                next(coming)
                rows = [(tick["processes"][0], tick["dur_s"]) for tick in coming]
            whole, cpu, wait = sum(dur for _, dur in rows), used(rows, "cpu"), used(rows, "wait")
            assert len(rows) == 3
            # A wait that goes on from one tick to the next counts from there only.
            assert 0.7 * whole < cpu + wait < 1.2 * whole
            assert 0 < cpu * 1e9 <= 1.01 * (run_ns(program.pid) - before)
            assert used(rows, "off_cpu") < 0.1 * whole


def test_its_functions_have_its_samples_and_are_named(tmp_path: Path) -> None:
    with running(burner(tmp_path)) as program, ticks(program.pid) as coming:
        top = next(tick["functions"][0] for tick in coming if tick["functions"])
        assert top["function"] == "burns_here" and top["module"].endswith("/burn") and top["share"] > 0.5


def test_naps_are_time_off_the_cpu() -> None:
    with (
        running(sys.executable, "-S", "-c", _NAPS) as program,
        ticks(program.pid, "--ticks", 4, interval=1) as coming,
    ):
        next(coming)
        rows = [(tick["processes"][0], tick["dur_s"]) for tick in coming]
        whole = sum(dur for _, dur in rows)
        off, cpu, wait = (used(rows, name) for name in ("off_cpu", "cpu", "wait"))
        assert 0.7 * whole < off + cpu + wait < 1.2 * whole
        assert off > cpu


def test_children_belong_to_the_process_with_and_without_bpf(tmp_path: Path) -> None:
    program = burner(tmp_path)
    for words in ([], ["--no-bpf"]):
        command = [sys.executable, "-c", "import subprocess, sys; input(); subprocess.run(sys.argv[1:])", program]
        with running(*command, stdin=subprocess.PIPE, start_new_session=True) as parent:
            with ticks(parent.pid, *words) as coming:
                next(coming)
                assert parent.stdin is not None
                print(file=parent.stdin, flush=True)
                row = next(row for tick in coming for row in tick["processes"] if row["name"] == "burn")
                assert row["parent"] == parent.pid
            with ticks(parent.pid, "--ticks", 1, *words) as coming:
                assert {row["pid"] for row in next(coming)["processes"]} == {parent.pid, row["pid"]}
            os.killpg(parent.pid, signal.SIGKILL)


def test_it_ends_with_its_target_and_a_command_gives_its_status() -> None:
    done = subprocess.run(
        [*INSITU, "top", "--batch", "--interval", "1000", "--", "sh", "-c", "sleep 0.5; exit 7"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7 and done.stdout.count("run queue") == 1  # the tick that its end has cut
    with (
        running("sleep", "1000") as program,
        running(*INSITU, "top", "--json", program.pid, stdout=subprocess.PIPE) as top,
    ):
        assert top.stdout is not None
        top.stdout.readline()
        program.kill()
        program.wait()
        assert top.wait(120) == 0


def test_wrong_targets_and_options_are_refused_in_one_line() -> None:
    for words, status in (
        (["999999999"], 2),
        (["-n", "no-such-name"], 2),
        (["--sort", "beauty"], 2),
        (["--interval", "0.01"], 2),
        (["-a", "--", "true"], 2),
        (["-n", "3"], 2),
        (["-o", "%CPU"], 2),
        (["--", "/no/such/program"], 127),
    ):
        done = subprocess.run([*INSITU, "top", *words], capture_output=True, text=True)
        assert done.returncode == status and done.stdout == "", words
        assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1, done.stderr


def test_the_screen_shows_a_command_saves_a_session_and_gives_the_terminal_back(tmp_path: Path) -> None:
    program = burner(tmp_path)
    top = [*INSITU, "top", "--interval", "0.2", "--", "sh", "-c", f"echo never-''shown; exec {program}"]
    # Standard error may be a file: the screen is on the terminal all the same.
    screen, child = pty_of(["sh", "-c", 'exec "$@" 2>messages', "sh", *top], tmp_path)
    seen = ""

    def has(text: str) -> bool:
        nonlocal seen
        seen += os.read(screen, 1 << 16).decode(errors="replace")
        return text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)

    wait_until(lambda: has("burn"))
    os.write(screen, b"r")
    wait_until(lambda: has("top.insitu: "))
    os.write(screen, b"q")
    wait_until(lambda: has("\x1b[?1049l") or "\x1b[?1049l" in seen)  # the alternate screen is left
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and "never-shown" not in seen
    os.close(screen)
    assert "\x1b" not in (tmp_path / "messages").read_text()
    with insitu.open(tmp_path / "top.insitu") as session:
        assert session.sql("select count(*) as n from process_tick")["n"].item() > 0
    assert not subprocess.run(["pgrep", "-f", str(program)], capture_output=True).stdout


def pty_of(command: list[str], directory: Path) -> tuple[int, int]:
    """Start a command on a terminal of its own."""
    child, screen = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    return screen, child


def test_without_a_terminal_to_type_on_it_prints_text() -> None:
    with running("sleep", "1000") as program:
        shown = on_terminal([*INSITU, "top", "--interval", "0.2", "--ticks", "1", program.pid])
        assert shown.status == 0 and "run queue" in shown_text(shown.data) and "sleep" in shown_text(shown.data)


def test_without_privileges_proc_is_shown_and_what_is_missing_is_named(unprivileged: Unprivileged) -> None:
    words = ("--ticks", "1", "--interval", "0.3", "--", "sleep", "1000")
    done = unprivileged((), "top", "--batch", *words)
    assert done.returncode == 0, done.stderr
    assert "no functions, system calls or off-CPU times: " in done.stdout and "CAP_" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.endswith(" sleep"))
    assert row.split()[5:7] == ["-", "-"]
    done = unprivileged(("BPF", "PERFMON", "DAC_READ_SEARCH"), "top", "--json", *words)
    assert done.returncode == 0 and json.loads(done.stdout)["calls"] is not None, done.stderr
