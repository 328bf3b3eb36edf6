"""The case of a service that never exits and loses memory in five functions: it is asked while it runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SOURCE = Path(__file__).parent / "leak_programs" / "service.c"
_EACH_REQUEST = {40: 1, 72: 1, 56: 1, 504: 1, 120: 2, 152: 1}
"""Size of the blocks that are never freed -> how many there are of each request."""


class _Service:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.pid = process.pid

    def request(self, times: int) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        for _ in range(times):
            self.process.stdin.write(b".")
            self.process.stdin.flush()
            assert self.process.stdout.read(1) == b"\n"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[_Service]:
    program = tmp_path / "service"
    subprocess.run(["gcc", "-g", "-O0", "-w", "-fno-builtin", "-o", program, _SOURCE], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield _Service(process)
        process.kill()


def _insitu(*words: object) -> Any:
    command = [sys.executable, "-m", "insitu", *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)


def test_it_is_asked_again_and_again_and_what_it_loses_is_what_its_functions_do(
    service: _Service, tmp_path: Path
) -> None:
    requests = 0
    for ask in range(4):
        service.request(50)
        requests += 50
        found = _insitu("leaks", "--json", "--show", "all", "-q", "-o", tmp_path / f"{ask}.insitu", service.pid)
        blocks: dict[int, int] = {}
        kinds: dict[tuple[str, int], int] = {}
        for each in found["groups"]:
            blocks[each["size"]] = blocks.get(each["size"], 0) + each["blocks"]
            kinds[each["kind"], each["size"]] = kinds.get((each["kind"], each["size"]), 0) + each["blocks"]
        assert blocks == {size: many * requests for size, many in _EACH_REQUEST.items()}
        # The newest configuration is in use, and a register may hold on to one block more.
        assert kinds["definitely lost", 40] >= requests - 1 and kinds["definitely lost", 72] >= requests - 1
        assert kinds["definitely lost", 56] == kinds["indirectly lost", 504] == requests - 1
        assert requests - 1 <= kinds["definitely lost", 120] == kinds["indirectly lost", 120]
        assert kinds["still reachable", 152] == requests
        service.request(1)  # it goes on
        requests += 1
    changes = _insitu("diff", "--json", tmp_path / "0.insitu", tmp_path / "3.insitu")["groups"]
    grown: dict[int, int] = {}
    for each in changes:
        grown[each["size"]] = grown.get(each["size"], 0) + each["after"]["blocks"] - each["before"]["blocks"]
    assert grown == {size: many * 153 for size, many in _EACH_REQUEST.items()}


def test_tracking_names_the_five_functions(service: _Service) -> None:
    service.request(10)
    command = [sys.executable, "-m", "insitu", "leaks", "--track", "--json", "--show", "all", str(service.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None and "allocations are traced" in run.stderr.readline()
        service.request(20)
        run.send_signal(2)
        found = json.loads(run.communicate(timeout=120)[0])
    blocks: dict[str, int] = {}
    for each in found["stacks"]:
        names = [frame["function"] for frame in each["stack"]]
        function = names[names.index("main") - 1]
        blocks[function] = blocks.get(function, 0) + each["blocks"]
    assert blocks == {
        "log_line": 20,
        "parse_request": 20,
        "reload_configuration": 40,
        "open_session": 40,
        "remember": 20,
    }
