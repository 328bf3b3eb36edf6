"""Our programs on files, disks, the network and KVM: each shows what a program in the guest provoked, with its count.

The counts are those of the provoking program (tools/provoke_io.py), of /proc/diskstats, /proc/net/snmp and tc.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.kernels import LONG_TESTS

from insitu.lab import guest as boot

_TRACE_ALL = Path(__file__).parent / "tools" / "trace_all.py"
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
# How each is called, and the event that sets it off.
_TRACES = {
    "-a biolatency": "block",
    "-a biopattern": "block",
    "biosnoop": "block",
    "biotop": "block",
    "bitesize": "block",
    "-a btt": "block",
    "cachestat": "page_cache",
    "dcstat": "directory_cache",
    "fileslow 0 xfs": "file_io",
    "-a fileslow 100000": "file_io",
    "filetop": "file_io",
    "opens": "opens",
    "-a writeback": "writeback",
    "gethostlatency": "gethostlatency",
    "tcpaccept": "tcp",
    "tcpconnect": "tcp",
    "-a tcpconnect 900": "full_backlog",
    "-a tcpconnect 1000": "delayed",
    "-a tcpdrop": "lossy",
    "tcplife": "tcp",
    "-a tcpretrans": "lossy",
    "-a tcpsynbl": "full_backlog",
    "kvmexit": "kvm",
}
_DISK = "vdc"
_CASE = Path(__file__).parents[2] / "docs/cases/ext4-writes.md"


class Run:
    """What a program printed, as lines of words, and what the event that it traced knows."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        self.text: str = result["stdout"]
        self.facts: dict[str, Any] = result["facts"]
        self.lines = [line.split() for line in self.text.splitlines()]
        self.who = [str(self.facts["pid"]), str(self.facts["comm"])] if self.facts else []

    def own(self) -> list[list[str]]:
        """The lines of the provoking process: TIME PID COMM ..."""
        return [line for line in self.lines if line[1:3] == self.who]

    def histogram(self, element: str) -> dict[str, int]:
        """The buckets that are not empty of a map's element."""
        block = re.search(rf"^{re.escape(element)}: *\n((?:[\[(].*\n)+)", self.text, re.MULTILINE)
        rows = re.findall(r"^([\[(].*[\])])\s+(\d+) \|", block[1], re.MULTILINE) if block else []
        return {bucket: int(count) for bucket, count in rows if int(count)}

    def total(self, element: str) -> int:
        """All numbers printed of a map's element."""
        return sum(map(int, re.findall(rf"^{re.escape(element)}: (\d+)$", self.text, re.MULTILINE)))


def insitu(*words: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "insitu", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=LONG_TESTS)
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fetched: Callable[[str], Any]
) -> tuple[dict[str, Run], Path]:
    """All programs in one guest, one after the other: they show the whole machine."""
    directory = tmp_path_factory.mktemp("io")
    disks = tuple(directory / name for name in ("ext4", "xfs", "plain"))
    for disk, mib in zip(disks, (64, 320, 64), strict=True):  # XFS wants 300 at least
        with disk.open("wb") as file:
            file.truncate(mib << 20)
    shared = directory / "shared"
    shared.mkdir()
    script = re.search(r"`writes\.bt`:\n\n```\n(.*?)```", _CASE.read_text(), re.DOTALL)
    assert script
    (shared / "writes.bt").write_text(script[1])
    recorded = f"-a -o {shared}/io.insitu biolatency"
    traces = {**_TRACES, f"{shared}/writes.bt": "ext4_writes", recorded: "block"}
    fetched(request.param)
    with boot(kernel=request.param, memory="1G", disks=disks, rw=(shared,), boot_timeout=300) as guest:
        ended = guest.run(
            [sys.executable, _TRACE_ALL, "provoke_io.py", "1", shared / "results.json"],
            stdin=json.dumps(traces).encode(),
            env=_ENVIRONMENT,
        )
    assert ended.status == 0, ended.stderr.decode()
    results = json.loads((shared / "results.json").read_text())
    # What has a path in its words, by the last part of it.
    return {name.rpartition("/")[2]: Run(result) for name, result in results.items()}, shared


@pytest.fixture
def runs(done: tuple[dict[str, Run], Path]) -> dict[str, Run]:
    """What each printed."""
    return done[0]


@pytest.mark.parametrize("name", _TRACES)
def test_a_program_ends_well_and_has_nothing_to_complain_of(runs: dict[str, Run], name: str) -> None:
    result = runs[name].result
    assert result["status"] == 0 and result["facts"] is not None, result["stderr"]
    assert "Lost" not in result["stderr"] and "warning" not in result["stderr"].lower(), result["stderr"]


def test_biolatency_counts_each_request_that_the_kernel_counted(runs: dict[str, Run]) -> None:
    run = runs["-a biolatency"]
    reads, _, writes, _ = run.facts["counted"]
    assert (reads, writes) == (20, 5)
    assert sum(run.histogram(f"@us[{_DISK}, read]").values()) == reads, run.text
    assert sum(run.histogram(f"@us[{_DISK}, write]").values()) == writes
    # No request can have taken longer than all of them, one after the other.
    lows = re.findall(r"\[(\d+K?)", " ".join(run.histogram(f"@us[{_DISK}, read]")))
    assert max(int(low.replace("K", "000")) for low in lows) <= run.facts["read_us"]


def test_requests_that_biolatency_recorded_are_rows_and_a_heat_map(
    done: tuple[dict[str, Run], Path], tmp_path: Path
) -> None:
    runs, shared = done
    session, page = str(shared / "io.insitu"), tmp_path / "map.html"
    assert runs["io.insitu biolatency"].result["status"] == 0
    question = f"select count(*) n, sum(bytes) bytes from event.io where disk = '{_DISK}' and op = 'read'"
    answer = insitu("sql", "--json", session, question)
    assert json.loads(answer) == [{"n": 20, "bytes": 20 * 8192}], answer
    assert "blk_mq_start_request" in insitu("report", session, "--no-tree", "--limit", "0")
    insitu("heatmap", session, "-o", str(page))
    assert "canvas" in page.read_text()


def test_bitesize_has_the_sizes_by_who_asked(runs: dict[str, Run]) -> None:
    run = runs["bitesize"]
    assert run.histogram(f"@bytes[{run.facts['comm']}, {_DISK}, read]") == {"[8K, 16K)": 20}, run.text
    assert run.histogram(f"@bytes[{run.facts['comm']}, {_DISK}, write]") == {"[16K, 32K)": 5}


def test_biosnoop_has_each_request_with_its_sector_and_its_process(runs: dict[str, Run]) -> None:
    run = runs["biosnoop"]
    found = [line for line in run.own() if line[3] == _DISK]
    assert [int(line[5]) for line in found if line[4] == "read"] == run.facts["reads"], run.text
    assert [int(line[5]) for line in found if line[4] == "write"] == run.facts["writes"]
    assert {(line[4], line[6]) for line in found} == {("read", "8192"), ("write", "16384")}
    # Requests are made one after the other, each within the call that makes it.
    assert sum(int(line[7]) + int(line[8]) for line in found if line[4] == "read") <= run.facts["read_us"]


def test_biotop_sums_what_a_process_read_and_wrote(runs: dict[str, Run]) -> None:
    run = runs["biotop"]
    key = f"{run.facts['pid']}, {run.facts['comm']}, {_DISK}"
    _, read, _, written = run.facts["counted"]
    assert run.total(f"@bytes[{key}, read]") == read * 512 == 20 * 8192, run.text
    assert run.total(f"@bytes[{key}, write]") == written * 512
    assert (run.total(f"@requests[{key}, read]"), run.total(f"@requests[{key}, write]")) == (20, 5)


def test_biopattern_tells_requests_in_a_row_from_those_apart(runs: dict[str, Run]) -> None:
    run = runs["-a biopattern"]
    found = [list(map(int, line[2:6])) for line in run.lines if line[1:2] == [_DISK]]
    # Of less than 100 requests, a share in per cent rounded down is that of one number only.
    sequential = sum(-(-percent * count // 100) for _, percent, count, _ in found)
    assert (sequential, sum(count for *_, count, _ in found)) == (9, 25), run.text
    assert sum(kib for *_, kib in found) == 20 * 8 + 5 * 16


def test_the_steps_of_btt_add_up(runs: dict[str, Run]) -> None:
    run = runs["-a btt"]
    for operation, requests in (("read", 20), ("write", 5)):
        found = {
            step: re.search(
                rf"^@{step}_us\[{_DISK}, {operation}\]: .*count = (\d+), .*total = (\d+)", run.text, re.MULTILINE
            )
            for step in ("Q2G", "G2I", "I2D", "D2C", "Q2C")
        }
        counts = [int(each[1]) for each in found.values() if each]
        assert counts == [requests] * 5, run.text
        *steps, whole = [int(each[2]) for each in found.values() if each]
        # Each is rounded down to microseconds.
        assert sum(steps) <= whole <= sum(steps) + 4 * requests


def test_cachestat_has_the_pages_that_were_read_and_those_that_came_from_the_disk(runs: dict[str, Run]) -> None:
    run = runs["cachestat"]
    lines = [list(map(int, line.split()[1:])) for line in run.text[run.facts["after"] :].splitlines() if line]
    read, misses, _, written, _ = (sum(column) for column in zip(*lines, strict=True))
    pages = run.facts["pages"]
    # Blocks of the file's metadata may be among those that a read brings in.
    assert (read, written) == (2 * pages, pages) and pages <= misses <= pages + 4, run.text


def test_dcstat_has_each_name_that_only_the_file_system_could_answer(runs: dict[str, Run]) -> None:
    run = runs["dcstat"]
    assert run.total(f"@misses[{run.facts['pid']}, dcprobe]") == run.facts["misses"], run.text
    assert f"@misses[{run.facts['pid']}, dcagain]" not in run.text
    names, misses = (sum(int(line[i]) for line in run.lines if re.match(r"\d+\.", "".join(line[:1]))) for i in (1, 2))
    assert names >= run.facts["lookups"] and names > misses >= run.facts["misses"]


def test_fileslow_has_each_call_with_its_bytes(runs: dict[str, Run]) -> None:
    run = runs["fileslow 0 xfs"]
    calls = [(line[3], line[4], int(line[5])) for line in run.own() if line[7:] == [run.facts["path"]]]
    expected = [
        ("xfs", "openat", 0),
        *[("xfs", "write", 1000)] * 30,
        ("xfs", "fsync", 0),
        *[("xfs", "pread64", 2000)] * 10,
    ]
    assert calls == expected, run.text
    assert {line[3] for line in run.own()} == {"xfs"}
    (fsync,) = (int(line[6]) for line in run.own() if line[4] == "fsync")
    assert 0 < fsync <= run.facts["fsync_us"]


def test_fileslow_leaves_out_what_is_faster_than_its_threshold(runs: dict[str, Run]) -> None:
    assert runs["-a fileslow 100000"].own() == []


def test_filetop_sums_the_bytes_of_a_file(runs: dict[str, Run]) -> None:
    run = runs["filetop"]
    key = f"{run.facts['pid']}, {run.facts['comm']}, {run.facts['path']}"
    assert run.total(f"@read_bytes[{key}]") == 10 * 2000, run.text
    assert run.total(f"@write_bytes[{key}]") == 30 * 1000
    assert run.histogram("@write_size").get("[512, 1K)", 0) >= 30
    assert run.histogram("@read_size").get("[1K, 2K)", 0) >= 10


def test_opens_has_the_descriptor_or_the_error(runs: dict[str, Run]) -> None:
    run = runs["opens"]
    assert [*run.who, str(run.facts["fd"]), "0", run.facts["path"]] in run.lines, run.text
    assert [*run.who, "-1", "2", run.facts["missing"]] in run.lines


def test_writeback_has_the_pages_that_sync_made_it_write(runs: dict[str, Run]) -> None:
    run = runs["-a writeback"]
    pages = [int(line[2]) for line in run.lines if line[1:2] == [run.facts["device"]] and line[4] == "WB_REASON_SYNC"]
    # And a few of metadata.
    assert run.facts["pages"] <= sum(pages) < run.facts["pages"] + 64, run.text


def test_the_case_of_ext4_has_the_pages_and_bytes_of_a_file(runs: dict[str, Run]) -> None:
    run = runs["writes.bt"]
    file = run.facts["file"]
    assert sum(run.histogram(f"@us[{file}]").values()) == run.facts["pages"], run.text
    assert run.total(f"@bytes[{file}]") == run.facts["bytes"]


def test_gethostlatency_has_the_name(runs: dict[str, Run]) -> None:
    run = runs["gethostlatency"]
    ((*_, error, host),) = run.own()
    assert (error, host) == ("0", run.facts["host"])


def test_tcpaccept_has_how_long_a_connection_waited(runs: dict[str, Run]) -> None:
    run = runs["tcpaccept"]
    ((*address, waited, left, limit),) = [line[3:] for line in run.own()]
    assert address == ["127.0.0.1", str(run.facts["port"])], run.text
    assert int(waited) >= run.facts["least_us"] and (left, limit) == ("0", "7")


def test_tcpconnect_has_the_connection_and_the_refusal(runs: dict[str, Run]) -> None:
    run = runs["tcpconnect"]
    made, refused = (line[3:] for line in run.own())
    assert made[:3] == [str(run.facts["client_port"]), "127.0.0.1", str(run.facts["port"])], run.text
    assert made[4] == "0" and (*refused[1:3], refused[4]) == ("::1", str(run.facts["port"]), "111")


def test_tcpconnect_with_a_threshold_shows_only_the_connection_whose_syn_was_dropped(runs: dict[str, Run]) -> None:
    run = runs["-a tcpconnect 900"]
    assert all(int(line[6]) >= 900_000 for line in run.own()), run.text
    (line,) = [line for line in run.own() if line[3] == str(run.facts["late_port"])]
    # Its SYN is sent again after a second.
    assert 990_000 <= int(line[6]) <= run.facts["took_us"] and line[7] == "0"


def test_tcpconnect_has_the_round_trip_of_a_slow_network(runs: dict[str, Run]) -> None:
    run = runs["-a tcpconnect 1000"]
    (line,) = run.own()
    assert line[5] == str(run.facts["port"]) and 1_200_000 <= int(line[6]) <= run.facts["took_us"], run.text


def test_tcplife_has_the_bytes_of_both_ends(runs: dict[str, Run]) -> None:
    run = runs["tcplife"]
    client, server = (str(run.facts[port]) for port in ("client_port", "port"))
    found = [line for line in run.lines if line[:2] == run.who and client in line]
    ends = sorted(
        [[client, "127.0.0.1", server, "102400", "20480"], [server, "127.0.0.1", client, "20480", "102400"]]
    )
    assert sorted(line[2:7] for line in found) == ends, run.text
    assert min(int(line[7]) for line in found) >= 60  # it waited so long to be accepted


def test_tcpretrans_has_as_many_as_the_kernel_counted(runs: dict[str, Run]) -> None:
    run = runs["-a tcpretrans"]
    ends = ["127.0.0.1", str(run.facts["client_port"]), "127.0.0.1", str(run.facts["port"])]
    again = [line for line in run.lines if line[2:6] == ends]
    assert len(again) == run.facts["again"] > 1, run.text
    assert {(line[1], line[6]) for line in again} == {("SEG", "ESTABLISHED")}


def test_tcpdrop_has_as_many_as_the_queueing_discipline_counted(runs: dict[str, Run]) -> None:
    run = runs["-a tcpdrop"]
    ends = ["127.0.0.1", str(run.facts["client_port"]), "127.0.0.1", str(run.facts["port"])]
    drops = [line for line in run.lines if line[1:] == [*ends, "SKB_DROP_REASON_QDISC_DROP"]]
    assert len(drops) == run.facts["dropped"] > 1, run.text
    assert "__dev_queue_xmit+" in run.text


def test_tcpsynbl_has_the_syns_that_found_the_queue_full(runs: dict[str, Run]) -> None:
    run = runs["-a tcpsynbl"]
    assert run.total(f"@dropped[{run.facts['port']}, 1]") == run.facts["dropped"] >= 1, run.text
    waiting = run.histogram(f"@waiting[{run.facts['port']}, 1]")
    assert waiting.get("[0]") == 1 and waiting["[1]"] >= 1 and waiting["[2, 4)"] == run.facts["dropped"]


def test_kvmexit_counts_each_write_to_a_port(runs: dict[str, Run]) -> None:
    run = runs["kvmexit"]
    # The emulated processor has AMD's virtualization.
    assert run.total(f"@svm_exits[{run.facts['pid']}, SVM_IO]") == run.facts["ports"] == 50, run.text
    assert run.total(f"@svm_exits[{run.facts['pid']}, SVM_HLT]") == 1
    assert run.total(f"@svm_us[{run.facts['pid']}, SVM_IO]") > 0
