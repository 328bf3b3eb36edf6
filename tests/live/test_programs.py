"""The built-in programs on this kernel: they compile where their events exist, and print what a test has provoked."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.probe.bpftrace.scripts import Program, built_in, read_script
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.providers.base import Context
from insitu.probe.source import Source

from .program_checks import CHECKS, Checked, apart
from .tracing import run_trace


def _absent(program: Program) -> list[str]:
    """The names of events that this kernel may lack: those that are not in its list of tracepoints."""
    tracefs = Tracefs.open()
    try:
        present = {f"tracepoint:{name}" for name in tracefs.events()}
    finally:
        tracefs.close()
    return [event.rpartition(":")[2] for event in program.events if event not in present]


@pytest.mark.parametrize("events", ["drop", "print"])
@pytest.mark.parametrize("program", built_in(), ids=lambda program: program.name)
def test_a_program_compiles_or_names_the_event_that_this_kernel_lacks(program: Program, events: str) -> None:
    try:
        options = Options(parameters=["1"], events=events)
        assert compile_script(read_script(program.name), options, Context()).programs
    except InsituError as error:
        assert "\n" not in str(error) and any(name in str(error) for name in _absent(program)), error


@pytest.mark.parametrize("name", CHECKS)
def test_a_program_reports_what_was_provoked(name: str, tmp_path: Path) -> None:
    CHECKS[name](Checked(apart, tmp_path))


_SCRIPT = (
    'BEGIN { printf("HEAD\\n"); } '
    'interval:ms:1 { printf("text\\n"); @n++; emit("tick", (number=@n, at=@n++, where=kstack)); '
    "if (@n > 5) { exit(); } }"
)


def test_json_has_the_events_in_place_of_the_text_and_the_maps() -> None:
    rows = [json.loads(line) for line in run_trace("--json", "-e", _SCRIPT).stdout.splitlines() if line]
    assert [row["type"] for row in rows] == ["event", "event", "event", "map"]
    assert [(row["label"], row["data"]["number"], row["data"]["at"]) for row in rows[:3]] == [
        ("tick", 1, 1),
        ("tick", 3, 3),
        ("tick", 5, 5),
    ]
    assert {"ts_ns", "pid", "tid", "where"} <= set(rows[0]["data"])
    assert rows[3]["data"] == {"@n": 6}


def test_json_of_a_script_without_events_has_its_text() -> None:
    rows = run_trace("--json", "-e", 'BEGIN { printf("text"); exit(); }').stdout.splitlines()
    assert {"type": "printf", "data": "text"} in [json.loads(line) for line in rows if line]


def test_events_that_are_not_wanted_make_no_ring_but_do_what_their_fields_do() -> None:
    compiled = compile_script(Source(_SCRIPT), Options(events="drop"), Context())
    assert not compiled.layout.labels and "events" not in {each.name for each in compiled.layout.maps}
    text = run_trace("-e", _SCRIPT).stdout
    assert text.count("text") == 3 and "@n: 6" in text


def test_events_are_printed_or_recorded_and_not_both(tmp_path: Path) -> None:
    refused = run_trace("--json", "-o", str(tmp_path / "run.insitu"), "-e", _SCRIPT, status=2)
    assert "--json prints what -o RUN.insitu records" in refused.stderr
    assert not (tmp_path / "run.insitu").exists()


def test_what_a_command_did_before_its_last_exec_is_not_taken_for_a_leak() -> None:
    shell = "exec 7</dev/null; exec python3 -c 'import os; [os.dup(0) for _ in range(3)]'"
    lines = run_trace("fdleak", "--", "sh", "-c", shell).stdout.partition("\n\n")[0].splitlines()
    assert len(lines) == 1 + 3


def test_a_program_without_maps_ends_without_empty_lines() -> None:
    assert len(run_trace("execs", "--", "true").stdout.splitlines()) == 2


def test_execs_of_a_command_are_those_of_its_descendants() -> None:
    shell = 'sh -c "/bin/true; exec /bin/echo one"; exec /bin/true'
    with subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) as other:  # is not one of them
        words = [sys.executable, "-m", "insitu", "trace", "--json", "execs", "--", "sh", "-c", shell]
        done = subprocess.run(words, capture_output=True, text=True)
        other.kill()
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"type": "event"')]
    paths = [row["data"]["path"].rpartition("/")[2] for row in rows]
    assert paths == ["sh", "sh", "true", "echo", "true"]


_PAUSE = 34  # x86-64
_CALLS = "import os; [os.getppid() for _ in range(500)]"


def _system_calls(printed: str) -> tuple[Counter[str], Counter[str], int]:
    """Of what the program syscalls printed: calls and nanoseconds by name, and how many have returned."""
    maps: dict[str, Any] = {}
    for line in filter(None, printed.splitlines()):
        row = json.loads(line)
        maps |= row["data"] if row["type"] in ("map", "hist") else {}
    calls, total_ns = Counter[str](), Counter[str]()
    for found, name in ((calls, "@calls"), (total_ns, "@total_ns")):
        for key, value in maps[name].items():
            found[key.rpartition(",")[2]] += value
    return calls, total_ns, sum(each["count"] for histogram in maps["@us"].values() for each in histogram)


def test_syscalls_counts_every_call_and_times_those_that_end_a_thread() -> None:
    printed = run_trace("--json", "syscalls", "--", sys.executable, "-c", _CALLS).stdout
    calls, total_ns, returned = _system_calls(printed)
    assert calls["getppid"] == 500 and calls["exit_group"] == 1
    assert total_ns.keys() == calls.keys() and all(total_ns.values())
    assert returned == calls.total() - 1


def test_syscalls_shows_a_call_that_has_not_returned_at_the_end() -> None:
    waits = """import signal
signal.signal(signal.SIGUSR1, lambda *_: print("woken", flush=True))
print("ready", flush=True)
while True: signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE) as waiting:
        try:
            assert waiting.stdout is not None and waiting.stdout.readline() == b"ready\n"
            words = [sys.executable, "-m", "insitu", "trace", "--json", "syscalls", "-p", str(waiting.pid)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tracer:
                assert tracer.stdout is not None
                tracer.stdout.readline()  # all is attached
                waiting.send_signal(signal.SIGUSR1)
                waiting.stdout.readline()
                while Path(f"/proc/{waiting.pid}/syscall").read_text().split()[0] != str(_PAUSE):
                    time.sleep(0.01)
                time.sleep(0.5)  # it says that all is attached just before the recording begins
                tracer.send_signal(signal.SIGINT)
                calls, total_ns, returned = _system_calls(tracer.stdout.read())
        finally:
            waiting.kill()
    assert calls["pause"] == 1 and total_ns["pause"] > 0
    assert returned == calls.total() - 1
