"""The functions of loaded BPF programs that others can be attached to: those that BTF describes."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from msgspec import Struct

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import BtfInfo, Command, ProgInfo
from insitu.symbols.btf import Btf, Type

__all__ = ["BpfFunction", "bpf_functions"]

_FUNC_INFO = struct.Struct("<II")  # struct bpf_func_info: insn_off, type_id


class BpfFunction(Struct, frozen=True):
    """A function of a loaded program; ``type_id`` is its number in the program's BTF."""

    program: int
    name: str
    type_id: int


def bpf_functions() -> Iterator[BpfFunction]:
    """The functions of all programs that are loaded now. :raises BpfError: without the privilege to list them."""
    for program in bpf.object_ids(Command.PROG_GET_NEXT_ID):
        try:
            program_fd = bpf.open_id(Command.PROG_GET_FD_BY_ID, program)
        except bpf.BpfError:
            continue  # gone since it was listed
        try:
            yield from _functions(program, program_fd)
        except InsituError:
            continue
        finally:
            os.close(program_fd)


def _functions(program: int, program_fd: int) -> list[BpfFunction]:
    sizes = ProgInfo()
    bpf.object_info(program_fd, sizes)
    if not sizes.btf_id or not sizes.nr_func_info:
        return []
    step = sizes.func_info_rec_size
    records = ctypes.create_string_buffer(sizes.nr_func_info * step)
    info = ProgInfo(func_info=ctypes.addressof(records), nr_func_info=sizes.nr_func_info, func_info_rec_size=step)
    bpf.object_info(program_fd, info)
    types = _types(sizes.btf_id)
    ids = [_FUNC_INFO.unpack_from(records, at)[1] for at in range(0, info.nr_func_info * step, step)]
    return [BpfFunction(program, Type(types, type_id).name, type_id) for type_id in ids]


def _types(btf_id: int) -> Btf:
    btf_fd = bpf.open_id(Command.BTF_GET_FD_BY_ID, btf_id)
    try:
        sizes = BtfInfo()
        bpf.object_info(btf_fd, sizes)
        data = ctypes.create_string_buffer(sizes.btf_size)
        bpf.object_info(btf_fd, BtfInfo(btf=ctypes.addressof(data), btf_size=sizes.btf_size))
        return Btf(data.raw, f"BTF {btf_id}")
    finally:
        os.close(btf_fd)
