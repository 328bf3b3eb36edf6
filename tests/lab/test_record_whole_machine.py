"""Whole-machine profiles, in a guest: nothing but what a test started may be recorded on the machine at hand."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import insitu
from insitu import lab
from insitu.capabilities import State
from insitu.lab.kernels.kernel import Kernel

pytestmark = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86_64")

INSITU = Path(sys.executable).with_name("insitu")
BUSY = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"


def test_the_whole_machine_is_recorded_while_a_command_runs_and_idle_cpus_are_not(
    tmp_path: Path, fetched: Callable[[str], Kernel]
) -> None:
    fetched("6.1-cloud")
    output = tmp_path / "all.insitu"
    script = f"cp /bin/sh /tmp/bystander; /tmp/bystander -c 'while :; do :; done' & {INSITU} profile -a -F 199"
    with lab.guest(kernel="6.1-cloud", cpus=2, memory="1G", rw=(tmp_path,), boot_timeout=300) as guest:
        done = guest.run(["sh", "-c", f"{script} -o {output} -- sh -c '{BUSY}'; status=$?; kill $!; exit $status"])
    assert done.status == 0, done.stderr
    with insitu.open(output) as session:
        assert not session.stacks().losses
        counts = dict(session.sql("select name, count(*) from sample join thread using (utid) group by name").rows())
        idle = session.sql("select count(*) from sample where utid = 0").item()
        cpus = set(session["sample"]["cpu"].to_list())
    # The bystander began before the recording and is not a child of its command.
    assert counts["bystander"] > 50
    assert counts["sh"] > 50
    assert not {name for name in counts if name.startswith("swapper")}
    assert idle == 0
    assert cpus == {0, 1}


def test_each_cpu_is_counted_by_itself_whatever_runs_there(tmp_path: Path, fetched: Callable[[str], Kernel]) -> None:
    fetched("6.1-cloud")
    source = Path(__file__).parents[1] / "live/counted.c"
    subprocess.run(["gcc", "-pthread", "-o", tmp_path / "counted", source], check=True)
    stat = [str(INSITU), "stat", "--json", "-A", "-e", "raw_syscalls:sys_enter"]
    command = ["taskset", "-c", "1", str(tmp_path / "counted"), "calls", "50000"]
    with lab.guest(kernel="6.1-cloud", cpus=2, memory="1G", rw=(tmp_path,), boot_timeout=300) as guest:
        both = guest.run([*stat, "-a", "--", *command]).check()
        first = guest.run([*stat, "-C", "0", "--", *command]).check()
    counts = {each["cpu"]: float(each["counter-value"]) for each in map(json.loads, both.stderr.splitlines())}
    assert set(counts) == {"0", "1"}
    assert counts["1"] >= 50000 > counts["0"]
    [only] = map(json.loads, first.stderr.splitlines())
    assert only["cpu"] == "0" and float(only["counter-value"]) < 50000


def test_the_doctor_finds_what_a_distribution_kernel_has(fetched: Callable[[str], Kernel]) -> None:
    fetched("6.1-cloud")
    with lab.guest(kernel="6.1-cloud", cpus=2, memory="1G", numa=2, boot_timeout=300) as guest:
        done = guest.run([str(INSITU), "doctor", "--json"])
    found = {feature["name"]: feature for feature in json.loads(done.stdout)["features"]}
    there = ("kprobes", "function entry and exit", "function tracers", "histogram triggers", "NUMA", "sysrq")
    assert {name: found[name]["state"] for name in there} == dict.fromkeys(there, State.YES)
    assert found["uprobes, many at once"]["state"] == State.PARTLY  # they came with Linux 6.6
