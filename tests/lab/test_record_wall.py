"""The verifiers of older kernels accept the program that accounts wall time, and it finds what the program did."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.lab.conftest import Guests
from tests.lab.kernels import LONG_TESTS

import insitu

_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}  # QEMU 7.2 emulates AVX2 wrongly
_PROGRAM = """
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
    int ends[2];
    char byte;
    if (pipe(ends)) { return 1; }
    if (!fork()) {
        for (int i = 0; i < 10; i++) { usleep(100000); if (write(ends[1], "x", 1) != 1) { _exit(1); } }
        usleep(500000);
        _exit(0);
    }
    for (int i = 0; i < 10; i++) { if (read(ends[0], &byte, 1) != 1) { return 1; } }
    return wait(0) < 0;
}
"""
# Without Polars, which these guests cannot run: the records are converted here.
_RECORD = """
import sys, tarfile
from pathlib import Path
from insitu.record.run import Request, record
from insitu.record.sources.processes import ProcessesSource
from insitu.record.sources.wall import WallSource

with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    for name, whole in (("command", False), ("machine", True)):
        session = Path(f"/run/{name}.insitu")
        record(Request(command=(sys.argv[1],), whole_system=whole), [ProcessesSource(), WallSource()], session)
        archive.add(session, session.name)
"""


@pytest.mark.parametrize("kernel", LONG_TESTS)
def test_wall_time_is_accounted_under_older_kernels(guests: Guests, kernel: str, tmp_path: Path) -> None:
    (tmp_path / "waits.c").write_text(_PROGRAM)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "waits", tmp_path / "waits.c"], check=True)
    done = guests.running(kernel).run([sys.executable, "-c", _RECORD, str(tmp_path / "waits")], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("command", "machine"):
        with insitu.open(tmp_path / f"{name}.insitu") as session:
            rows = session.sql(
                "select cause, call, sum(dur_ns)::bigint from wall join thread using (utid)"
                " where name = 'waits' and state = 'blocked' group by all"
            )
            found = {(cause, call): ns for cause, call, ns in rows.rows()}
            assert found["pipe", "read"] >= 0.9e9
            assert found["child", "wait4"] >= 0.4e9
            assert found["sleep", "clock_nanosleep"] >= 1.4e9
            others = session.sql(
                "select count(distinct utid) from wall join thread using (utid) where name <> 'waits'"
            )
            assert (others.item() > 0) == (name == "machine")
            # Those that slept all the time; of others the host, which converts, does not know the guest's symbols.
            idle = session.sql("select count(distinct utid) from wall where cause = 'idle'")
            assert (idle.item() > 0) == (name == "machine")
