"""The accounts of insitu why hold where the kernel does not run our programs, and where many timers end waits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import insitu
from insitu.record.run import Request, record
from insitu.record.sources.processes import ProcessesSource
from insitu.record.sources.syscalls_targets import TargetMaps
from insitu.record.sources.wall import WallSource

from .tracing import wait_until

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

# Sleeps, and computes until it is told to end. It comes before all others: nothing takes the CPU from it meanwhile.
_NAP = """
import os, select, sys, time
poll, stdin = select.poll(), sys.stdin.buffer.raw
poll.register(0, select.POLLIN)
stdin.read(1)
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
began = time.monotonic()
time.sleep(0.5)
slept = time.monotonic() - began
print(flush=True)
while not poll.poll(0): pass
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
print(slept, time.thread_time(), flush=True)
stdin.read(2)
"""


class _Deaf(WallSource):
    """Sees nothing of how the program's nap ends, nor that it runs then."""

    def __init__(self, program: "subprocess.Popen[bytes]") -> None:
        super().__init__()
        self._program = program

    def start(self, directory: Path | None, start_ns: int) -> None:
        super().start(directory, start_ns)
        maps = TargetMaps(self.map)
        _tell(self._program)
        wait_until(lambda: "nanosleep" in Path(f"/proc/{self._program.pid}/wchan").read_text())
        maps.set("@until", 0)
        assert self._program.stdout is not None
        self._program.stdout.readline()
        maps.set("@until", 1 << 60)
        _tell(self._program)


def _tell(program: "subprocess.Popen[bytes]") -> None:
    assert program.stdin is not None
    program.stdin.write(b"x")
    program.stdin.flush()


def test_a_sleep_whose_end_was_not_seen_is_not_time_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    with subprocess.Popen([sys.executable, "-c", _NAP], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        wait_until(lambda: "read" in Path(f"/proc/{program.pid}/wchan").read_text())
        try:
            record(Request(pids=(program.pid,), seconds=1), [ProcessesSource(), _Deaf(program)], output)
            slept, ran = map(float, program.stdout.readline().split())
        finally:
            program.kill()
    with insitu.open(output) as session:
        rows = session.sql("select state, cause, sum(dur_ns)::bigint from wall group by all").rows()
    ns = {(state, cause): each for state, cause, each in rows}
    on_cpu = sum(each for (state, _), each in ns.items() if state in ("user", "kernel", "running"))
    assert on_cpu / 1e9 < ran + 0.1, (ns, ran)
    assert ns["blocked", "sleep"] / 1e9 > slept - 0.1, (ns, slept)


_MANY = """
import threading, time
end = time.monotonic() + 4
def naps(ms):
    while time.monotonic() < end:
        time.sleep(ms / 1000)
        sum(range(3000))
threads = [threading.Thread(target=naps, args=(5 + each % 50,)) for each in range(200)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_timers_that_interrupt_all_kinds_of_code_fill_no_map(tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    why = [sys.executable, "-m", "insitu", "why"]
    subprocess.run([*why, "-q", "-o", output, "--", sys.executable, "-c", _MANY], check=True)
    found = json.loads(subprocess.run([*why, "--json", output], check=True, capture_output=True).stdout)
    assert not any("map was full" in source for source in found["lost"]), found["lost"]
    with insitu.open(output) as session:
        lives = session.sql(
            "select sum(dur_ns)::bigint as ns, any_value(end_ns - start_ns) as life"
            " from wall join thread using (utid)"
            " where end_ns is not null and tid <> (select pid from process where upid = 1) group by utid"
        ).rows()
    assert len(lives) >= 200
    for ns, life in lives:
        assert ns > 0.99 * life - 20e6  # a thread still waits for a CPU after its end was recorded
