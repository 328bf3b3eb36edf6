"""Memory of files and processes on a machine of two NUMA nodes, with a kernel that has no cachestat(2)."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from insitu.lab.guests.guest import Guest

_ROOT = Path(__file__).parents[1]
_PAGES = 4096
_HUGE = 512  # pages of 4 KiB


def test_each_part_of_a_file_is_on_the_node_of_the_cpu_that_wrote_it(shared_guest: Guest) -> None:
    write = "dd if=/dev/zero of=/tmp/cached bs=4096 conv=notrunc oflag=append status=none"
    shared_guest.run(["taskset", "-c", "1", *write.split(), "count=50"]).check()
    shared_guest.run(["taskset", "-c", "0", *write.split(), "count=30"]).check()
    command = [sys.executable, "-m", "insitu", "cache", "--json", "--numa", "--segments", "8", "/tmp/cached"]
    document = json.loads(shared_guest.run(command).check().stdout)
    shared_guest.run(["rm", "/tmp/cached"]).check()
    (found,) = document["listed"]
    assert [part["nodes"] for part in found["parts"]] == [{"1": 10}] * 5 + [{"0": 10}] * 3
    assert document["cached"] == 80 * _PAGES and document["dirty"] is None


def test_memory_is_on_the_nodes_and_in_the_pages_that_the_program_asked_for(
    shared_guest: Guest, tmp_path: Path
) -> None:
    program = tmp_path / "nodes"
    subprocess.run(["gcc", "-static", "-o", program, _ROOT / "live/memory_programs/nodes.c"], check=True)
    script = _ROOT / "lab/tools/node_memory.py"
    found: Any = json.loads(shared_guest.run([sys.executable, str(script), str(program)]).check().stdout)
    (process,) = found["json"]["processes"]
    rows = {int(each["start"], 16): each for each in process["mappings"]["mappings"]}
    by_name = {name: rows[at] for name, at in found["at"].items() if name != "child"}

    # What the program did, in pages of 4 KiB.
    def columns(name: str) -> dict[str, int]:
        names = ("resident", "private", "huge", "hugetlb", "locked")
        return {each: by_name[name][each] // _PAGES for each in names if by_name[name][each]}

    small = {"node0": 30, "node1": 50, "interleaved": 40}
    assert {name: columns(name) for name in small} == {
        name: {"resident": pages, "private": pages} for name, pages in small.items()
    }
    assert columns("locked") == {"resident": 5, "private": 5, "locked": 5}
    two = 2 * _HUGE
    assert columns("transparent") == {"resident": two, "private": two, "huge": two}
    assert (columns("pool"), columns("shared_pool")) == ({"hugetlb": 3 * _HUGE}, {"hugetlb": 2 * _HUGE})
    assert {
        name: {node: size // _PAGES for node, size in each["nodes"].items()} for name, each in by_name.items()
    } == {
        "node0": {"0": 30},
        "node1": {"1": 50},
        "interleaved": {"0": 20, "1": 20},
        "locked": {"0": 5},
        "transparent": {"1": two},
        "pool": {"0": 3 * _HUGE},
        "shared_pool": {"1": 2 * _HUGE},
    }
    # The child has one of the two huge pages of the pool that it may share, and nothing else of these.
    child = next(each for each in process["mappings"]["shared_with"] if each["pid"] == found["at"]["child"])
    at = {name: f"{start:#x}" for name, start in found["at"].items()}
    assert {name: child["by_mapping"][at[name]] for name in by_name if at[name] in child["by_mapping"]} == {
        "shared_pool": _HUGE * _PAGES
    }
    assert found["transparent"] == [
        [two, "private, anonymous, huge"],
        [_HUGE, "page of zeros, huge"],
        [_HUGE, ""],
    ]
    assert found["shared_pool"] == [[_HUGE, "shared, file cache, huge"], [_HUGE, "private, file cache, huge"]]

    # What the kernel has of each mapping.
    for line in found["numa_maps"].splitlines():
        unit = int((re.search(r"kernelpagesize_kB=(\d+)", line) or [0, "4"])[1]) << 10
        nodes = {node: int(count) * unit for node, count in re.findall(r" N(\d+)=(\d+)", line)}
        assert rows[int(line.split()[0], 16)]["nodes"] == nodes, line
    for text in re.split(r"(?m)^(?=[0-9a-f]+-)", found["smaps"])[1:]:
        kernel = {name: int(size) << 10 for name, size in re.findall(r"(?m)^(\w+): +(\d+) kB$", text)}
        ours = rows[int(text.partition("-")[0], 16)]
        for name, fields in (
            ("resident", "Rss"),
            ("private", "Private_Clean Private_Dirty"),
            ("shared", "Shared_Clean Shared_Dirty"),
            ("huge", "AnonHugePages ShmemPmdMapped FilePmdMapped"),
            ("hugetlb", "Private_Hugetlb Shared_Hugetlb"),
            ("locked", "Locked"),
        ):
            if "[vvar]" not in text and "[vdso]" not in text:
                assert ours[name] == sum(kernel[field] for field in fields.split()), (name, text)

    first, *others = found["text"].splitlines()
    assert " resident and 10.0 MiB of the pool of huge pages (hugetlb) in " in first
    assert re.search(r"^  [\d.]+ MiB on node 0, [\d.]+ MiB on node 1$", "\n".join(others), re.M)
    assert process["memory"]["Private_Hugetlb"] + process["memory"]["Shared_Hugetlb"] == 5 * _HUGE * _PAGES
    assert [each["why"] for each in found["hugetlbfs"]["unknown"]] == ["made of huge pages, which are no page cache"]


def test_limits_of_cgroups_of_version_1_are_shown(shared_guest: Guest) -> None:
    script = _ROOT / "lab/tools/legacy_cgroups.py"
    found: Any = json.loads(shared_guest.run([sys.executable, str(script)]).check().stdout)
    cgroup = found["json"]["processes"][0]["cgroup"]
    directories = {f"{found['top']}/{name}/outer/inner" for name in ("memory", "cpu,cpuacct", "pids")}
    assert set(cgroup["directories"]) == directories
    assert cgroup["limits"] == {"memory": 64 << 20, "swap": -1, "memory and swap": -1, "pids": 7}
    assert (cgroup["used"]["memory"], cgroup["used"]["pids"]) == (found["usage"], 1)
    assert cgroup["cpu_max"] == [25000, 50000] and cgroup["throttled"]["times"] == 0
    text = " ".join(found["text"].split())
    assert re.search(
        r" cgroups /.+: memory .+ of 64\.0 MiB \(\d+ %\); processes and threads 1 of 7 \(14 %\); "
        r"CPU 0\.5 of 50 ms periods ",
        text,
    )
