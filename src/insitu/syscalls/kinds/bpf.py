"""bpf(2) by command: the members of union bpf_attr that each has (include/uapi/linux/bpf.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import c_int
from insitu.syscalls.capture import Bytes, Choice, Linked, String
from insitu.syscalls.kinds.bpf_instructions import MOST_INSTRUCTIONS, extended_instruction, instructions
from insitu.syscalls.kinds.layout import c_string, hex_or_0, interface
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted, string

__all__ = ["KINDS"]

_ATTR: Final = 160
"""Bytes of the union that are looked at."""
_REPLACE: Final = 4

(_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _PROG_LOAD, _PIN, _GET, _ATTACH, _DETACH, _TEST_RUN, _PROG_NEXT,
 _MAP_NEXT, _PROG_BY_ID, _MAP_BY_ID, _INFO, _QUERY, _RAW_TRACEPOINT, _BTF_LOAD, _BTF_BY_ID, _TASK_FD, _LOOKUP_DELETE,
 _FREEZE, _BTF_NEXT, _LOOKUP_BATCH, _LOOKUP_DELETE_BATCH, _UPDATE_BATCH, _DELETE_BATCH, _LINK_CREATE, _LINK_UPDATE,
 _LINK_BY_ID, _LINK_NEXT, _ENABLE_STATS, _ITER_CREATE, _LINK_DETACH, _BIND_MAP) = range(36)  # fmt: skip

Member = tuple[str, int, int, str]
"""Name, offset, bytes, how it is shown."""

_ELEMENT: Final = (("map_fd", 0, 4, "fd"), ("key", 8, 8, "ptr"))
_VALUE: Final = (*_ELEMENT, ("value", 16, 8, "ptr"))
_FLAGGED: Final = (*_VALUE, ("flags", 24, 8, "flags:bpf_map_update"))
_BATCH: Final = (
    ("in_batch", 0, 8, "ptr"), ("out_batch", 8, 8, "ptr"), ("keys", 16, 8, "ptr"), ("values", 24, 8, "ptr"),
    ("count", 32, 4, "u"), ("map_fd", 36, 4, "fd"), ("elem_flags", 40, 8, "flags:bpf_map_update"),
    ("flags", 48, 8, "x"),
)  # fmt: skip
_MEMBERS: Final[dict[int, tuple[Member, ...]]] = {
    _MAP_CREATE: (
        ("map_type", 0, 4, "enum:bpf_map_type"), ("key_size", 4, 4, "u"), ("value_size", 8, 4, "u"),
        ("max_entries", 12, 4, "u"), ("map_flags", 16, 4, "flags:bpf_map_flags"), ("inner_map_fd", 20, 4, "fd"),
        ("numa_node", 24, 4, "if:4"), ("map_name", 28, 16, "name"), ("map_ifindex", 44, 4, "ifindex"),
        ("btf_fd", 48, 4, "fd"),
        ("btf_key_type_id", 52, 4, "u"), ("btf_value_type_id", 56, 4, "u"), ("btf_vmlinux_value_type_id", 60, 4, "u"),
        ("map_extra", 64, 8, "u"),
    ),
    _LOOKUP: _FLAGGED, _UPDATE: _FLAGGED, _DELETE: _ELEMENT, _LOOKUP_DELETE: _VALUE,
    _NEXT_KEY: (*_ELEMENT, ("next_key", 16, 8, "ptr")),
    _PROG_LOAD: (
        ("prog_type", 0, 4, "enum:bpf_prog_type"), ("insn_cnt", 4, 4, "u"), ("insns", 8, 8, "insns"),
        ("license", 16, 8, "str"), ("log_level", 24, 4, "u"), ("log_size", 28, 4, "u"), ("log_buf", 32, 8, "log"),
        ("kern_version", 40, 4, "version"), ("prog_flags", 44, 4, "flags:bpf_prog_flags"),
        ("prog_name", 48, 16, "name"),
        ("prog_ifindex", 64, 4, "ifindex"), ("expected_attach_type", 68, 4, "enum:bpf_attach_type"),
        ("prog_btf_fd", 72, 4, "fd"), ("func_info_rec_size", 76, 4, "u"), ("func_info", 80, 8, "ptr"),
        ("func_info_cnt", 88, 4, "u"), ("line_info_rec_size", 92, 4, "u"), ("line_info", 96, 8, "ptr"),
        ("line_info_cnt", 104, 4, "u"), ("attach_btf_id", 108, 4, "u"), ("attach_prog_fd", 112, 4, "fd"),
    ),
    _PIN: (("pathname", 0, 8, "path"), ("bpf_fd", 8, 4, "fd"), ("file_flags", 12, 4, "flags:bpf_file_flags")),
    _GET: (("pathname", 0, 8, "path"), ("bpf_fd", 8, 4, "fd"), ("file_flags", 12, 4, "flags:bpf_file_flags")),
    _ATTACH: (
        ("target_fd", 0, 4, "fd"), ("attach_bpf_fd", 4, 4, "fd"), ("attach_type", 8, 4, "enum:bpf_attach_type"),
        ("attach_flags", 12, 4, "flags:bpf_attach_flags"), ("replace_bpf_fd", 16, 4, "replaced"),
    ),
    _DETACH: (("target_fd", 0, 4, "fd"), ("attach_type", 8, 4, "enum:bpf_attach_type")),
    _TEST_RUN: (
        ("prog_fd", 0, 4, "fd"), ("retval", 4, 4, "u"), ("data_size_in", 8, 4, "u"), ("data_size_out", 12, 4, "u"),
        ("data_in", 16, 8, "ptr"), ("data_out", 24, 8, "ptr"), ("repeat", 32, 4, "u"), ("duration", 36, 4, "u"),
        ("ctx_size_in", 40, 4, "u"), ("ctx_size_out", 44, 4, "u"), ("ctx_in", 48, 8, "ptr"),
        ("ctx_out", 56, 8, "ptr"),
        ("flags", 64, 4, "flags:bpf_test_run"), ("cpu", 68, 4, "u"),
    ),
    _PROG_NEXT: (("start_id", 0, 4, "u"), ("next_id", 4, 4, "u"), ("open_flags", 8, 4, "flags:bpf_file_flags")),
    _PROG_BY_ID: (("prog_id", 0, 4, "u"), ("next_id", 4, 4, "u"), ("open_flags", 8, 4, "flags:bpf_file_flags")),
    _MAP_BY_ID: (("map_id", 0, 4, "u"), ("next_id", 4, 4, "u"), ("open_flags", 8, 4, "flags:bpf_file_flags")),
    _BTF_BY_ID: (("btf_id", 0, 4, "u"), ("next_id", 4, 4, "u"), ("open_flags", 8, 4, "flags:bpf_file_flags")),
    _INFO: (("bpf_fd", 0, 4, "fd"), ("info_len", 4, 4, "u"), ("info", 8, 8, "ptr")),
    _QUERY: (
        ("target_fd", 0, 4, "fd"), ("attach_type", 4, 4, "enum:bpf_attach_type"),
        ("query_flags", 8, 4, "flags:bpf_query_flags"), ("attach_flags", 12, 4, "flags:bpf_attach_flags"),
        ("prog_ids", 16, 8, "ptr"), ("prog_cnt", 24, 4, "u"),
    ),
    _RAW_TRACEPOINT: (("name", 0, 8, "str"), ("prog_fd", 8, 4, "fd")),
    _BTF_LOAD: (
        ("btf", 0, 8, "btf"), ("btf_log_buf", 8, 8, "ptr"), ("btf_size", 16, 4, "u"), ("btf_log_size", 20, 4, "u"),
        ("btf_log_level", 24, 4, "u"),
    ),
    _TASK_FD: (
        ("pid", 0, 4, "u"), ("fd", 4, 4, "fd"), ("flags", 8, 4, "x"), ("buf_len", 12, 4, "u"), ("buf", 16, 8, "ptr"),
        ("prog_id", 24, 4, "u"), ("fd_type", 28, 4, "enum:bpf_fd_type"), ("probe_offset", 32, 8, "x"),
        ("probe_addr", 40, 8, "x"),
    ),
    _FREEZE: (("map_fd", 0, 4, "fd"),),
    _LOOKUP_BATCH: _BATCH, _LOOKUP_DELETE_BATCH: _BATCH, _UPDATE_BATCH: _BATCH, _DELETE_BATCH: _BATCH,
    _LINK_CREATE: (
        ("prog_fd", 0, 4, "fd"), ("target_fd", 4, 4, "fd"), ("attach_type", 8, 4, "enum:bpf_attach_type"),
        ("flags", 12, 4, "x"),
    ),
    _LINK_UPDATE: (
        ("link_fd", 0, 4, "fd"), ("new_prog_fd", 4, 4, "fd"), ("flags", 8, 4, "flags:bpf_attach_flags"),
        ("old_prog_fd", 12, 4, "fd"),
    ),
    _LINK_BY_ID: (("link_id", 0, 4, "u"),),
    _ENABLE_STATS: (("type", 0, 4, "enum:bpf_stats"),),
    _ITER_CREATE: (("link_fd", 0, 4, "fd"), ("flags", 4, 4, "x")),
    _LINK_DETACH: (("link_fd", 0, 4, "fd"),),
    _BIND_MAP: (("prog_fd", 0, 4, "fd"), ("map_fd", 4, 4, "fd"), ("flags", 8, 4, "x")),
}  # fmt: skip
_MEMBERS[_MAP_NEXT] = _MEMBERS[_BTF_NEXT] = _MEMBERS[_LINK_NEXT] = _MEMBERS[_PROG_NEXT]
_NESTED: Final = {
    _TEST_RUN: "test", _INFO: "info", _QUERY: "query", _RAW_TRACEPOINT: "raw_tracepoint", _TASK_FD: "task_fd_query",
    _LINK_CREATE: "link_create", _LINK_UPDATE: "link_update", _ENABLE_STATS: "enable_stats",
    _ITER_CREATE: "iter_create", _LINK_DETACH: "link_detach", _BIND_MAP: "prog_bind_map",
    **dict.fromkeys((_LOOKUP_BATCH, _LOOKUP_DELETE_BATCH, _UPDATE_BATCH, _DELETE_BATCH), "batch"),
}  # fmt: skip
"""Commands whose members are in a structure of that name."""
_AT_LEAST: Final = {_MAP_CREATE: 20, _PROG_LOAD: 48, _GET: 12, _PIN: 12}


def _attributes(argument: Argument) -> str | None:
    if argument.at_exit:
        return None
    command, size = argument.other(0) & 0xFFFFFFFF, argument.other(2) & 0xFFFFFFFF
    members = _MEMBERS.get(command)
    data = argument.memory.read(argument.value, min(size, _ATTR)) if size else b""
    if data is None or members is None:
        return None
    needed = max(
        offset + length
        for _, offset, length, _ in members
        if offset < max(_AT_LEAST.get(command, 0), 1) or command not in _AT_LEAST
    )
    if len(data) < needed:
        data = data + bytes(needed - len(data)) if len(data) == size else data
    words = []
    for name, offset, length, how in members:
        if offset >= len(data) or offset >= max(size, needed):
            break
        raw = data[offset : offset + length].ljust(length, b"\0")
        text = _member(argument, int.from_bytes(raw, "little"), raw, how, data)
        if text is not None:
            words.append(f"{name}={text}")
    inside = "{" + ", ".join(words) + "}"
    end = max(offset + length for _, offset, length, _ in members)
    rest = data[end:]
    more = ""
    if any(rest):
        limit = argument.options.string_limit
        more = f", /* bytes {end}..{end + len(rest) - 1} */ {quoted(rest[:limit], 'all')}" + (
            "..." if len(rest) > limit else ""
        )
    if command in _NESTED:
        return f"{{{_NESTED[command]}={inside}{more}}}"
    return f"{inside[:-1]}{more}}}"


def _member(argument: Argument, value: int, raw: bytes, how: str, data: bytes) -> str | None:
    kind, _, given = how.partition(":")
    if kind == "flags":
        return flags_text(argument, given, value)
    if kind == "enum":
        return enum_text(argument, given, value)
    if kind == "if":
        return str(value) if int.from_bytes(data[16:20], "little") & int(given) else None
    if kind == "replaced":
        kind = "fd"
        if not data[12] & _REPLACE:
            return None
    return _SHOWN[kind](argument, value, raw, data)


def _path(argument: Argument, value: int, raw: bytes, data: bytes) -> str:
    return (string(argument.at(value), 4095) if value else None) or hexadecimal(value)


def _string(argument: Argument, value: int, raw: bytes, data: bytes) -> str:
    return (string(argument.at(value), argument.options.string_limit) if value else None) or hexadecimal(value)


def _log(argument: Argument, value: int, raw: bytes, data: bytes) -> str:
    if not value or not int.from_bytes(data[28:32], "little"):
        return hexadecimal(value)
    text = argument.memory.read(value, argument.options.string_limit + 1)
    return (string(argument.at(value), argument.options.string_limit) if text else None) or hexadecimal(value)


def _version(argument: Argument, value: int, raw: bytes, data: bytes) -> str:
    return f"KERNEL_VERSION({value >> 16}, {value >> 8 & 0xFF}, {value & 0xFF})"


def _types(argument: Argument, value: int, raw: bytes, data: bytes) -> str:
    size = int.from_bytes(data[16:20], "little")
    limit = argument.options.string_limit
    found = argument.memory.read(value, min(size, limit)) if value and size else None
    return (
        quoted(found, argument.options.strings_in_hex) + ("..." if size > limit else "")
        if found
        else hexadecimal(value)
    )


_SHOWN: Final[dict[str, Callable[[Argument, int, bytes, bytes], str]]] = {
    "fd": lambda a, value, raw, data: descriptor(a, c_int(value)),
    "ptr": lambda a, value, raw, data: hexadecimal(value),
    "u": lambda a, value, raw, data: str(value),
    "x": lambda a, value, raw, data: hex_or_0(value),
    "ifindex": lambda a, value, raw, data: interface(value),
    "name": lambda a, value, raw, data: c_string(a, raw),
    "str": _string,
    "path": _path,
    "log": _log,
    "version": _version,
    "insns": lambda a, value, raw, data: instructions(
        a, value, int.from_bytes(data[4:8], "little"), extended_instruction
    ),
    "btf": _types,
}

KINDS: Kinds = {
    "bpf_attr": Kind(
        _attributes,
        Choice(
            0,
            (
                (
                    _PROG_LOAD,
                    Linked(
                        128,
                        ((8, 4, 4, Linked(8, (), MOST_INSTRUCTIONS)), (16, -1, 0, String()), (32, -1, 0, String())),
                    ),
                ),
                (_PIN, Linked(16, ((0, -1, 0, String(path=True)),))),
                (_GET, Linked(16, ((0, -1, 0, String(path=True)),))),
                (_RAW_TRACEPOINT, Linked(16, ((0, -1, 0, String()),))),
                (_BTF_LOAD, Linked(32, ((0, 16, 4, Bytes(1, whole=False)),))),
            ),
            Bytes(1),
        ),
    ),
}
