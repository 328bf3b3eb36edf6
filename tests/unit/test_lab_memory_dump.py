"""Compressed dumps as QEMU writes them, put in order and named."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.lab.memory_dump import name_system, unflatten


def flattened(pieces: list[tuple[int, bytes]], end: bytes = struct.pack(">qq", -1, -1)) -> bytes:
    header = (b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    return header + b"".join(struct.pack(">qq", place, len(data)) + data for place, data in pieces) + end


def test_pieces_go_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "flat").write_bytes(flattened([(8, b"later"), (0, b"first"), (5, b"abc")]))
    unflatten(tmp_path / "flat", tmp_path / "dump")
    assert (tmp_path / "dump").read_bytes() == b"firstabclater"


@given(st.integers(0, 4400), st.integers(0, 4400), st.integers(0, 255))
def test_a_damaged_dump_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, length: int, at: int, byte: int
) -> None:
    data = bytearray(flattened([(8, bytes(100)), (0, b"first"), (5, b"abc")])[:length])
    if at < len(data):
        data[at] = byte
    folder = tmp_path_factory.mktemp("kdump")
    (folder / "flat").write_bytes(data)
    try:
        unflatten(folder / "flat", folder / "dump")
    except InsituError:
        pass
    except OSError as error:
        assert error.errno  # an offset beyond what the file system can hold: the caller says so


def test_only_empty_names_are_filled_in(tmp_path: Path) -> None:
    names = [b"", b"host", b"", b"", b"x86_64", b""]
    dump = tmp_path / "dump"
    dump.write_bytes(b"KDUMP   " + struct.pack("<I", 6) + b"".join(name.ljust(65, b"\0") for name in names))
    name_system(dump, "guest", "6.1.0")
    data = dump.read_bytes()
    assert [data[12 + 65 * n :].split(b"\0")[0] for n in range(5)] == [
        b"Linux",
        b"host",
        b"6.1.0",
        b"unknown",
        b"x86_64",
    ]


def test_a_file_that_is_not_a_dump_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else")
    with pytest.raises(InsituError, match="not a compressed dump"):
        name_system(tmp_path / "file", "guest", "6.1.0")
    assert (tmp_path / "file").read_bytes() == b"something else"
