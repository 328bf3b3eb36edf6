"""Addresses of stacks go to the symbols of what was mapped there; what is not an address has a frame of its own."""

import os
from pathlib import Path

import numpy as np

from insitu.convert.symbolize import Resolver
from insitu.session.interning import FrameTable
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import CUT


def functions(spaces: ProcessMap, epoch: list[int], address: list[int], called: list[bool]) -> list[str]:
    frames = FrameTable()
    resolver = Resolver(Symbolizer(kallsyms=b"ffffffff81000000 T _stext\n"), spaces, frames)
    arrays = np.array(epoch, np.int32), np.array(address, np.uint64), np.array(called, np.bool_)
    offsets, numbers = resolver(*arrays)
    assert np.diff(offsets).tolist() == [1] * len(address)
    return [frames.frames[number].function for number in numbers.tolist()]


def test_a_cut_stack_says_so_and_unmapped_addresses_are_unknown() -> None:
    addresses = [int(CUT), 0x1000, 0xFFFFFFFF81000000]
    assert functions(ProcessMap(), [-1] * 3, addresses, [True, True, False]) == [
        "[stack truncated]",
        "[unknown]",
        "_stext",
    ]


def test_jitted_code_in_a_memfd_is_named_by_its_address_whatever_its_offset() -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("7f0000001000 80 hot\n7f0000001080 80 cold\n")
    spaces = ProcessMap()
    spaces.mapped(os.getpid(), 1, 0x7F0000001000, 0x1000, 0x5000, "/memfd:code (deleted)")
    try:
        addresses = [0x7F0000001000, 0x7F0000001080, 0x7F0000001080, 0x7F0000001200]
        found = functions(spaces, [0] * 4, addresses, [False, False, True, False])
    finally:
        path.unlink()
    # A return address belongs to the call before it.
    assert found == ["hot", "cold", "hot", "memfd:code+0x5200"]
