"""The programs on files on this kernel, on a process that a test starts; others show the machine: in guests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_WRITER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for _ in range(30):
    os.write(descriptor, bytes(1000))
for i in range(10):
    assert len(os.pread(descriptor, 2000, 2000 * i)) == 2000
"""


def _events(path: Path, *words: str) -> list[dict[str, Any]]:
    """What a program reports of one that writes 30 times 1000 bytes to the file and reads 10 times 2000."""
    command = [
        sys.executable,
        "-m",
        "insitu",
        "trace",
        "--json",
        *words,
        "--",
        sys.executable,
        "-c",
        _WRITER,
        str(path),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in output.splitlines() if line]
    return [each["data"] for each in found if each["type"] == "event" and each["data"].get("path") == str(path)]


def test_filetop_has_the_calls_and_bytes_of_a_file(tmp_path: Path) -> None:
    (file,) = _events(tmp_path / "file", "filetop")
    assert (file["writes"], file["write_bytes"], file["reads"], file["read_bytes"]) == (30, 30_000, 10, 20_000)


@pytest.mark.parametrize(("threshold", "calls"), [("0", 41), ("100000", 0)])
def test_fileslow_has_the_calls_that_took_as_long(tmp_path: Path, threshold: str, calls: int) -> None:
    events = _events(tmp_path / "file", "fileslow", threshold)
    assert len(events) == calls
    assert sum(each["bytes"] for each in events) == (50_000 if calls else 0)


def test_opens_has_the_new_descriptor(tmp_path: Path) -> None:
    (event,) = _events(tmp_path / "file", "opens")
    assert event["fd"] >= 3 and event["error"] == 0 and event["took_ns"] > 0
