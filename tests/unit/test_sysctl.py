"""Sysctls: names and values as the files under /proc/sys, the kernel's documentation, differences."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.inspect.sysctl import (
    Values,
    defaults,
    differences,
    documentation,
    read_sysctls,
    read_values,
)
from insitu.views.sysctl import sentence


def _insitu(*words: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "insitu", "sysctl", *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_values_are_those_of_the_files_and_names_those_of_sysctl(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4/conf/eth0.7").mkdir(parents=True)
    (tmp_path / "net/ipv4/conf/eth0.7/mtu").write_text("1\t2\n3\n")
    (tmp_path / "flush").write_text("")
    (tmp_path / "flush").chmod(0o200)
    found = {each.name: each for each in read_sysctls(tmp_path)}
    assert found["net.ipv4.conf.eth0/7.mtu"].value == "1 2 3"
    assert found["flush"].value is None and found["flush"].setting
    assert read_sysctls() and next(each for each in read_sysctls() if each.name == "kernel.pid_max").value == (
        " ".join(Path("/proc/sys/kernel/pid_max").read_text().split())
    )


def test_the_documentation_has_the_kernels_text_of_each_sysctl() -> None:
    version, texts = documentation()
    assert version.startswith("6.")
    assert "0 and 200" in texts["vm.swappiness"]
    assert texts["net.core.message_burst"] == texts["net.core.message_cost"]
    assert sentence(texts["vm.dirty_bytes"]) == (
        "Contains the amount of dirty memory at which a process generating disk writes will itself start writeback."
    )
    assert len(texts) > 200 and all(texts.values())


def test_differences_are_those_of_either_side_and_what_depends_on_the_machine_is_marked() -> None:
    here = Values("a", "6.12", {"vm.swappiness": "10", "kernel.threads-max": "1", "kernel.panic": "0", "x.y": "1"})
    there = Values("b", "6.12", {"vm.swappiness": "60", "kernel.threads-max": "2", "kernel.panic": "0", "x.z": "2"})
    assert [tuple(each) for each in differences(here, there)] == [
        ("kernel.threads-max", "1", "2", True),
        ("vm.swappiness", "10", "60", False),
        ("x.y", "1", None, False),
        ("x.z", None, "2", False),
    ]


def test_a_machine_does_not_differ_from_what_it_saved_but_for_what_was_set(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    _insitu("--save", str(saved))
    document = json.loads(saved.read_text())
    document["values"]["vm.swappiness"] = "199"
    saved.write_text(json.dumps(document))
    shown = json.loads(_insitu("vm.swappiness", "--changed", "--against", str(saved), "--json"))
    (row,) = shown["differences"]
    assert row["name"] == "vm.swappiness" and row["there"] == "199"


def test_where_nothing_differs_a_line_says_so(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    _insitu("--save", str(saved))
    words = [sys.executable, "-m", "insitu", "sysctl", "vm.swappiness", "--changed", "--against", str(saved)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not done.stdout and re.fullmatch(r"insitu: nothing differs from .*\(.*\)\n", done.stderr), done.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "insitu-sysctl-1"}', "[" * 100_000])
def test_a_file_that_was_not_saved_by_us_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_text(text)
    with pytest.raises(InsituError, match="no saved sysctls"):
        read_values(path)


def test_a_kernel_without_recorded_defaults_is_reported_with_those_that_there_are() -> None:
    with pytest.raises(InsituError, match=r"no defaults of Linux 2\.6") as raised:
        defaults("2.6.32")
    assert "--against" in raised.value.remedy


def test_a_pattern_is_looked_for_in_names_and_then_in_the_documentation() -> None:
    assert "vm.swappiness = " in _insitu("vm/swappiness")
    assert "vm.dirty_ratio = " in _insitu("vm.dirty_*")
    assert "vm.dirty_background_bytes = " in _insitu("flusher threads")
    assert "no sysctl matches" in _insitu("no_such_sysctl_at_all", status=1)
