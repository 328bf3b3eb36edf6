"""The verifiers of older kernels accept the programs that record system calls, and they record what the call did."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.lab.conftest import Guest

_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}  # QEMU 7.2 emulates AVX2 wrongly
_CALLS = """
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
int main(void)
{
    struct iovec parts[2] = {{"hello", 5}, {" world", 6}};
    int fd = open("/dev/null", O_WRONLY);
    for (int i = 0; i < 5; i++) { writev(fd, parts, 2); }
    return close(-1) != -1;
}
"""
_RECORD = """
import json, sys
from insitu.record.run import Destination, Request, run
from insitu.record.sources.syscalls import SyscallsSource
from insitu.record.sources.syscalls_summary import SummarySource
from insitu.syscalls.call import Call, Enter, Exit
from insitu.syscalls.decode import Decoder, call_name
from insitu.syscalls.engine_options import EngineOptions

found, summary = [], SummarySource(EngineOptions())
class Counted(Destination):
    def end(self, end_ns, outcome): self.rows = {row.name: [row.calls, row.errors] for row in summary.rows()}
counted = Counted()
request = Request(command=(sys.argv[1],))
run(request, [SyscallsSource(EngineOptions(descriptors=2), found.extend)], Destination())
run(request, [summary], counted)
lines, opened = [], {}
for event in found:
    if isinstance(event, Enter): opened[event.tid] = event
    elif isinstance(event, Exit):
        call = Call(opened.pop(event.tid), event)
        name = call_name(call.enter.abi, call.enter.nr)
        lines.append([name, [piece.text for piece in Decoder().arguments(call)], event.ret])
print(json.dumps([lines, counted.rows]))
"""


def test_calls_are_recorded_and_counted(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "calls.c").write_text(_CALLS)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "calls", tmp_path / "calls.c"], check=True)
    done = guest.run([sys.executable, "-c", _RECORD, str(tmp_path / "calls")], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    lines, counted = json.loads(done.stdout)
    parts = '[{iov_base="hello", iov_len=5}, {iov_base=" world", iov_len=6}]'
    assert [line for line in lines if line[0] == "writev"] == [["writev", ["3", parts, "2"], 11]] * 5
    assert ["close", ["-1"], -9] in lines
    assert counted["writev"] == [5, 0] and counted["close"] == [1, 1] and counted["execve"] == [1, 0]


# Two programs wait for a byte, make their calls, and say that they have; insitu's command lets them go. The other
# calls that are traced are what insitu itself does most of the time.
_WAITS = """
#include <stdio.h>
#include <unistd.h>
int main(int count, char **words)
{
    char byte, path[64];
    read(0, &byte, 1);
    for (int i = 0; i < 200; i++) { sprintf(path, "/%s/%d", words[1], i); access(path, F_OK); }
    write(1, "x", 1);
    return 0;
}
"""
_WHOLE_MACHINE = """
import json, os, signal, subprocess, sys, tempfile, time
program, folder = sys.argv[1], tempfile.mkdtemp()
for name in ("go", "done"): os.mkfifo(f"{folder}/{name}")
go, done = (os.open(f"{folder}/{name}", os.O_RDWR) for name in ("go", "done"))
waiting = [subprocess.Popen([program, name], stdin=go, stdout=done) for name in ("one", "two")]
insitu = [sys.executable, "-m", "insitu", "syscalls", "-a", "-yy", "-e", "access,epoll_wait,poll,read,write"]
command = f"echo $PPID >{folder}/pid; printf xx >{folder}/go; dd bs=1 count=2 <{folder}/done 2>/dev/null"
traced = subprocess.run([*insitu, "-o", f"{folder}/out", "sh", "-c", command], capture_output=True, text=True)
for each in waiting: each.wait()
lines = open(f"{folder}/out").read().splitlines()
timed = subprocess.run([*insitu, "-d", "0.5", "-o", f"{folder}/timed"]).returncode
interrupted = subprocess.Popen([*insitu, "-o", f"{folder}/interrupted"])
reads = subprocess.Popen(["sh", "-c", "while :; do read line </proc/version; sleep 0.1; done"])
while not (os.path.exists(f"{folder}/interrupted") and os.path.getsize(f"{folder}/interrupted")): time.sleep(0.1)
interrupted.send_signal(signal.SIGINT)
ended = interrupted.wait()
reads.kill()
ours = open(f"{folder}/pid").read().strip()
print(json.dumps([lines, [each.pid for each in waiting], ours, traced.stderr, timed, ended]))
"""


def test_the_whole_machine_is_traced_but_for_insitu_itself(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "waits.c").write_text(_WAITS)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "waits", tmp_path / "waits.c"], check=True)
    done = guest.run([sys.executable, "-c", _WHOLE_MACHINE, str(tmp_path / "waits")], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    lines, pids, ours, said, timed, interrupted = json.loads(done.stdout)
    for pid, name in zip(pids, ("one", "two"), strict=True):
        mine = [line.split(None, 1)[1] for line in lines if line.split()[0] == str(pid)]
        paths = [found[1] for line in mine if (found := re.match(r'access\("([^"]*)", F_OK', line))]
        assert paths == [f"/{name}/{each}" for each in range(200)]
        assert [line for line in mine if re.match(r'write\(1</.*/done>, "x", 1', line)]
        assert "+++ exited with 0 +++" in mine
    assert not [line for line in lines if line.split()[0] == ours or "lost here" in line]
    assert "lost" not in said and (timed, interrupted) == (0, 0)
