"""insitu delays, against what /proc has of the same processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars
import pytest

import insitu

from .program_checks import Checked, apart

if os.geteuid() != 0:
    pytest.skip("needs root, for taskstats", allow_module_level=True)


def _schedstat(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/schedstat").read_text().split()))


_BUSY = "end = time.process_time() + 0.1\nwhile time.process_time() < end: pass\ndone()"


def test_time_on_a_cpu_and_waits_for_one_are_those_of_schedstat(tmp_path: Path) -> None:
    checked = Checked(apart, tmp_path)
    gated = checked.python(_BUSY)
    gated.go()
    while Path(f"/proc/{gated.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)
    (found,) = json.loads(checked.run("delays", "-q", "--json", gated.pid))["processes"]
    ran, waited, times = _schedstat(gated.pid)
    gated.let_go()
    cpu = found["delays"]["cpu"]
    assert (found["run_ns"], cpu["ns"], cpu["count"]) == (ran, waited, times) and ran >= 100e6


def test_a_command_is_accounted_with_its_threads_until_its_end(tmp_path: Path) -> None:
    """The program reports the CPU time that it has used itself, almost at its end."""
    spin = "end = time.thread_time() + 0.05\n    while time.thread_time() < end: pass"
    script = (
        f"import threading, time\ndef spin():\n    {spin}\n"
        "for _ in range(3):\n    t = threading.Thread(target=spin); t.start(); t.join()\n"
        "print(time.process_time(), flush=True)"
    )
    words = ["delays", "-q", "--json", "-o", str(tmp_path / "run.insitu"), "--", sys.executable, "-c", script]
    done = subprocess.run([sys.executable, "-m", "insitu", *words], capture_output=True, text=True, check=True)
    used, _, rest = done.stdout.partition("\n")
    (found,) = json.loads(rest)["processes"]
    assert float(used) * 0.9 - 0.05 <= found["run_ns"] / 1e9 <= float(used) * 1.1 + 0.3
    rows = insitu.open(tmp_path / "run.insitu").sql("select sum(run_ns) as ran, sum(cpu_ns) as waited from delay")
    assert isinstance(rows, polars.DataFrame)
    assert rows.row(0) == (found["run_ns"], found["delays"]["cpu"]["ns"])


# Runs three programs one after the other, two of which start another one, and says what all of them have used.
_FAMILY = """
import resource, subprocess, sys, threading, time
def spin():
    end = time.thread_time() + 0.05
    while time.thread_time() < end: pass
def child(depth):
    thread = threading.Thread(target=spin); thread.start(); spin(); thread.join()
    if depth: start(depth - 1)
def start(depth):
    subprocess.run([sys.executable, "-I", "-S", "-c", text, text, str(depth)], check=True)
text = sys.argv[1]
if len(sys.argv) > 2:
    child(int(sys.argv[2]))
else:
    for depth in (1, 1, 0): start(depth)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, flush=True)
"""


def test_what_a_command_starts_is_accounted_as_its_own_rusage_has_it(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", _FAMILY, _FAMILY]
    words = ["delays", "-q", "--json", "-o", str(tmp_path / "run.insitu"), "--", *command]
    done = subprocess.run([sys.executable, "-m", "insitu", *words], capture_output=True, text=True, check=True)
    used, _, rest = done.stdout.partition("\n")
    first, *others = json.loads(rest)["processes"]
    assert len(others) == 5 and "lost" not in done.stderr
    # The kernel accounts a thread shortly before its end, when memory and files are already given back.
    ran = sum(each["run_ns"] for each in others) / 1e9
    assert float(used) * 0.9 - 0.05 <= ran <= float(used) * 1.02 + 0.01
    assert all(each["run_ns"] >= 0.09e9 and each["delays"]["cpu"]["count"] > 0 for each in others)
    rows = insitu.open(tmp_path / "run.insitu").sql("select sum(run_ns) as ran from delay")
    assert isinstance(rows, polars.DataFrame)
    assert rows.item() == sum(each["run_ns"] for each in [first, *others])


def test_what_outlives_the_command_is_accounted_until_its_end(tmp_path: Path) -> None:
    child = "import os, time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass\n"
    child += "os.write(1, b'%d' % os.getpid()); os.close(1)\ntime.sleep(3600)"
    shell = '"$0" -I -S -c "$1" >"$2" 2>/dev/null & while ! [ -s "$2" ]; do sleep 0.01; done'
    words = ["delays", "-q", "--json", "--", "sh", "-c", shell, sys.executable, child, str(tmp_path / "pid")]
    done = subprocess.run([sys.executable, "-m", "insitu", *words], capture_output=True, text=True, check=True)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    (found,) = (each for each in json.loads(done.stdout)["processes"] if each["pid"] == pid)
    assert found["run_ns"] >= 0.05e9


def test_a_process_that_does_not_exist_and_a_strange_output_are_refused_in_one_line() -> None:
    for words in (["4194303"], ["-o", "x.txt", "1"], []):
        done = subprocess.run([sys.executable, "-m", "insitu", "delays", *words], capture_output=True, text=True)
        assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
