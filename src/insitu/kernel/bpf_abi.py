"""Numbers and structures of bpf(2), as include/uapi/linux/bpf.h has them: data, no calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "NAME_BYTES",
    "AttachType",
    "Attr",
    "BtfInfo",
    "BtfLoad",
    "Command",
    "EnableStats",
    "Id",
    "Info",
    "IterCreate",
    "LinkInfo",
    "LinkIter",
    "LinkKprobeMulti",
    "LinkPerfEvent",
    "LinkUprobeMulti",
    "MapBatch",
    "MapCreate",
    "MapElement",
    "MapType",
    "ProgInfo",
    "ProgLoad",
    "ProgramType",
    "RawTracepoint",
    "TestRun",
]


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    MAP_FREEZE = 22
    BTF_GET_NEXT_ID = 23
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    ITER_CREATE = 33


class ProgramType(IntEnum):
    """enum bpf_prog_type, the tracing ones."""

    KPROBE = 2
    TRACEPOINT = 5
    PERF_EVENT = 7
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """enum bpf_attach_type, the tracing ones."""

    NONE = 0
    TRACE_RAW_TP = 23
    TRACE_FENTRY = 24
    TRACE_FEXIT = 25
    TRACE_ITER = 28
    PERF_EVENT = 41
    TRACE_KPROBE_MULTI = 42
    TRACE_UPROBE_MULTI = 48


class MapType(IntEnum):
    """enum bpf_map_type, those that tracing programs use."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    RINGBUF = 27


NAME_BYTES = 16  # BPF_OBJ_NAME_LEN, with its terminating zero
_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64


class Attr(ctypes.Structure):
    """One arm of union bpf_attr. The kernel extends a short one with zeros and takes a long one if its rest is 0."""

    _fields_: ClassVar[Sequence[tuple[str, type[ctypes._SimpleCData[int]] | type[ctypes.Array[ctypes.c_char]]]]]


class MapCreate(Attr):
    _fields_ = (
        ("map_type", _U32),
        ("key_size", _U32),
        ("value_size", _U32),
        ("max_entries", _U32),
        ("map_flags", _U32),
        ("inner_map_fd", _U32),
        ("numa_node", _U32),
        ("map_name", ctypes.c_char * NAME_BYTES),
    )


class MapElement(Attr):
    _fields_ = (("map_fd", _U32), ("_pad", _U32), ("key", _U64), ("value", _U64), ("flags", _U64))


class MapBatch(Attr):
    _fields_ = (
        ("in_batch", _U64),
        ("out_batch", _U64),
        ("keys", _U64),
        ("values", _U64),
        ("count", _U32),
        ("map_fd", _U32),
        ("elem_flags", _U64),
        ("flags", _U64),
    )


class ProgLoad(Attr):
    _fields_ = (
        ("prog_type", _U32),
        ("insn_cnt", _U32),
        ("insns", _U64),
        ("license", _U64),
        ("log_level", _U32),
        ("log_size", _U32),
        ("log_buf", _U64),
        ("kern_version", _U32),
        ("prog_flags", _U32),
        ("prog_name", ctypes.c_char * NAME_BYTES),
        ("prog_ifindex", _U32),
        ("expected_attach_type", _U32),
        ("prog_btf_fd", _U32),
        ("func_info_rec_size", _U32),
        ("func_info", _U64),
        ("func_info_cnt", _U32),
        ("line_info_rec_size", _U32),
        ("line_info", _U64),
        ("line_info_cnt", _U32),
        ("attach_btf_id", _U32),
        ("attach_btf_obj_fd", _U32),
    )


class TestRun(Attr):
    _fields_ = (
        ("prog_fd", _U32),
        ("retval", _U32),
        ("data_size_in", _U32),
        ("data_size_out", _U32),
        ("data_in", _U64),
        ("data_out", _U64),
        ("repeat", _U32),
        ("duration", _U32),
        ("ctx_size_in", _U32),
        ("ctx_size_out", _U32),
        ("ctx_in", _U64),
        ("ctx_out", _U64),
        ("flags", _U32),
        ("cpu", _U32),
        ("batch_size", _U32),
    )


class Id(Attr):
    _fields_ = (("id", _U32), ("next_id", _U32), ("open_flags", _U32))


class Info(Attr):
    _fields_ = (("bpf_fd", _U32), ("info_len", _U32), ("info", _U64))


class RawTracepoint(Attr):
    _fields_ = (("name", _U64), ("prog_fd", _U32), ("_pad", _U32), ("cookie", _U64))


class BtfLoad(Attr):
    _fields_ = (
        ("btf", _U64),
        ("btf_log_buf", _U64),
        ("btf_size", _U32),
        ("btf_log_size", _U32),
        ("btf_log_level", _U32),
    )


_LINK_HEAD = (("prog_fd", _U32), ("target_fd", _U32), ("attach_type", _U32), ("flags", _U32))


class LinkPerfEvent(Attr):
    _fields_ = (*_LINK_HEAD, ("bpf_cookie", _U64))


class LinkIter(Attr):
    _fields_ = (*_LINK_HEAD, ("iter_info", _U64), ("iter_info_len", _U32))


class LinkKprobeMulti(Attr):
    _fields_ = (*_LINK_HEAD, ("multi_flags", _U32), ("cnt", _U32), ("syms", _U64), ("addrs", _U64), ("cookies", _U64))


class LinkUprobeMulti(Attr):
    _fields_ = (
        *_LINK_HEAD,
        ("path", _U64),
        ("offsets", _U64),
        ("ref_ctr_offsets", _U64),
        ("cookies", _U64),
        ("cnt", _U32),
        ("multi_flags", _U32),
        ("pid", _U32),
    )


class EnableStats(Attr):
    _fields_ = (("type", _U32),)


class IterCreate(Attr):
    _fields_ = (("link_fd", _U32), ("flags", _U32))


class ProgInfo(Attr):
    """struct bpf_prog_info."""

    _fields_ = (
        ("type", _U32),
        ("id", _U32),
        ("tag", ctypes.c_char * 8),
        ("jited_prog_len", _U32),
        ("xlated_prog_len", _U32),
        ("jited_prog_insns", _U64),
        ("xlated_prog_insns", _U64),
        ("load_time", _U64),
        ("created_by_uid", _U32),
        ("nr_map_ids", _U32),
        ("map_ids", _U64),
        ("name", ctypes.c_char * NAME_BYTES),
        ("ifindex", _U32),
        ("gpl_compatible", _U32),
        ("netns_dev", _U64),
        ("netns_ino", _U64),
        ("nr_jited_ksyms", _U32),
        ("nr_jited_func_lens", _U32),
        ("jited_ksyms", _U64),
        ("jited_func_lens", _U64),
        ("btf_id", _U32),
        ("func_info_rec_size", _U32),
        ("func_info", _U64),
        ("nr_func_info", _U32),
        ("nr_line_info", _U32),
        ("line_info", _U64),
        ("jited_line_info", _U64),
        ("nr_jited_line_info", _U32),
        ("line_info_rec_size", _U32),
        ("jited_line_info_rec_size", _U32),
        ("nr_prog_tags", _U32),
        ("prog_tags", _U64),
        ("run_time_ns", _U64),
        ("run_cnt", _U64),
        ("recursion_misses", _U64),
        ("verified_insns", _U32),
        ("attach_btf_obj_id", _U32),
        ("attach_btf_id", _U32),
    )


class BtfInfo(Attr):
    """struct bpf_btf_info."""

    _fields_ = (
        ("btf", _U64),
        ("btf_size", _U32),
        ("id", _U32),
        ("name", _U64),
        ("name_len", _U32),
        ("kernel_btf", _U32),
    )


class LinkInfo(Attr):
    """The common head of struct bpf_link_info."""

    _fields_ = (("type", _U32), ("id", _U32), ("prog_id", _U32))
