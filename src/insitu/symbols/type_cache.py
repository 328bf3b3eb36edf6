"""What binaries' debug information said of functions and types, on disk: a second start starts no reader of DWARF.

The file of an answer is named by a hash of what was asked, of which files, read by which code, and holds a checksum.
"""

# Starts come here: see insitu.cache_home.
# ruff: noqa: PTH116, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from functools import cache
from importlib.util import source_hash as checksum  # 8 bytes
from typing import Final

from insitu.cache_home import own_cache
from insitu.files import write_whole
from insitu.symbols.type_process import FOUND, MISSING, REPLY_HEAD, Reply

__all__ = ["entry", "load", "store"]

_CHECKSUM_BYTES: Final = 8
_MAX_BYTES: Final = 1 << 16
_MAX_ENTRIES: Final = 4096


def entry(descriptors: Sequence[int], what: int, name: str) -> str | None:
    """The file of an answer about binaries that are open; None where the cache directory is not this user's."""
    directory = own_cache("types")
    if directory is None:
        return None
    found = [os.fstat(each) for each in descriptors]
    stamps = [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found]
    return os.path.join(directory, checksum(repr((_code_stamp(), stamps, what, name)).encode()).hex())


@cache
def _code_stamp() -> tuple[int, ...]:
    here = os.path.dirname(__file__)
    return tuple(os.stat(os.path.join(here, f"type_{part}.py")).st_mtime_ns for part in ("process", "encoder"))


def load(path: str) -> Reply | None:
    """The answer in a file; None where there is none, or it is damaged."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES or checksum(data[_CHECKSUM_BYTES:]) != data[:_CHECKSUM_BYTES]:
            return None
        state, number, value, size = REPLY_HEAD.unpack_from(data, _CHECKSUM_BYTES)
    except (OSError, struct.error):
        return None
    body = data[_CHECKSUM_BYTES + REPLY_HEAD.size :]
    if state not in (FOUND, MISSING) or len(body) != size:
        return None
    return state, number, int.from_bytes(value, "little", signed=True), body


def store(path: str, reply: Reply) -> None:
    """Keep an answer, if it is small; where it cannot be written there is none."""
    state, number, value, body = reply
    content = REPLY_HEAD.pack(state, number, value.to_bytes(16, "little", signed=True), len(body)) + body
    if state in (FOUND, MISSING) and len(content) + _CHECKSUM_BYTES <= _MAX_BYTES:
        with contextlib.suppress(OSError):
            if len(os.listdir(os.path.dirname(path))) < _MAX_ENTRIES:
                write_whole(path, checksum(content) + content)
