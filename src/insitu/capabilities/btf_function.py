"""The BTF ids of a few kernel functions, found in one walk over the kernel's types without decoding them.

The layout is that of include/uapi/linux/btf.h.
"""

import struct
from functools import cache
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["function_ids"]

_HEADER: Final = struct.Struct("=HBBIIIII")  # struct btf_header: magic, version, flags, lengths and offsets
_TYPE: Final = struct.Struct("=III")  # struct btf_type: name_off, info, size or type
_MAGIC: Final = 0xEB9F
_FUNC: Final = 12

# Bytes that follow struct btf_type: (fixed, for each of vlen members), by kind.
_TAIL: Final = {
    1: (4, 0),  # INT
    3: (12, 0),  # ARRAY
    4: (0, 12),  # STRUCT
    5: (0, 12),  # UNION
    6: (0, 8),  # ENUM
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    17: (4, 0),  # DECL_TAG
    19: (0, 12),  # ENUM64
}


@cache
def function_ids(names: tuple[str, ...], path: str = "/sys/kernel/btf/vmlinux") -> dict[str, int]:
    """Function name -> BTF type id, for those of ``names`` that the kernel has. Raises InsituError, OSError."""
    data = Path(path).read_bytes()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
        raise InsituError(f"{path} is not BTF")
    _, _, _, header, type_offset, type_bytes, string_offset, string_bytes = _HEADER.unpack_from(data)
    strings = data[header + string_offset : header + string_offset + string_bytes]
    wanted = {strings.find(b"\0" + name.encode() + b"\0") + 1: name for name in names}
    wanted.pop(0, None)
    found: dict[str, int] = {}
    at, end, number = header + type_offset, min(header + type_offset + type_bytes, len(data)), 0
    while at + _TYPE.size <= end and len(found) < len(wanted):
        name, info, _ = _TYPE.unpack_from(data, at)
        number += 1
        kind = info >> 24 & 31
        if kind == _FUNC and name in wanted:
            found[wanted[name]] = number
        fixed, each = _TAIL.get(kind, (0, 0))
        at += _TYPE.size + fixed + each * (info & 0xFFFF)
    return found
