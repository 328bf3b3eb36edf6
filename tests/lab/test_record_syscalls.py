"""The verifiers of older kernels accept the programs that record system calls, and they record what the call did."""

import json
import os
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
run(request, [SyscallsSource(EngineOptions(descriptors=1), found.extend)], Destination())
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
