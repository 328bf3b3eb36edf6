"""`insitu top` of a whole machine, which only a guest may be."""

import json
import os
import sys

import pytest
from tests.lab.conftest import Guest
from tests.lab.kernels import LONG_TESTS

_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}  # QEMU 7.2 emulates AVX2 wrongly


@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_the_whole_machine_is_counted_with_bpf(guest: Guest) -> None:
    # Copies, whose names say which they are: one only runs, one makes system calls.
    script = f"""
home=$(mktemp -d)
cp /bin/sh $home/bystander; cp /bin/dd $home/caller
$home/bystander -c 'while :; do :; done' & first=$!
$home/caller if=/dev/zero of=/dev/null bs=1 2> /dev/null & second=$!
{sys.executable} -m insitu top --json --interval 4 --ticks 3 --limit 0; status=$?
kill $first $second; rm -r $home; exit $status
"""
    done = guest.run(["sh", "-c", script], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    ticks = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert len(ticks) == 3
    for tick in ticks[1:]:
        rows = {row["name"]: row for row in tick["processes"]}
        assert 0.6 < rows["bystander"]["cpu"] + rows["bystander"]["wait"] < 1.2
        assert rows["bystander"]["calls"] < 0.1 * rows["caller"]["calls"]
        assert rows["caller"]["calls"] <= tick["calls"]
        assert 1 in {row["pid"] for row in tick["processes"]}
        assert len(tick["machine"]["cpus"]) == 2
    assert sum(len(tick["functions"]) for tick in ticks) > 3
