"""insitu cache on a machine of two NUMA nodes, with a kernel that has no cachestat(2)."""

import json
import sys

from insitu.lab.guests.guest import Guest

_PAGES = 4096


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
