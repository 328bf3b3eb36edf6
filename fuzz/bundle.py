"""Several named members in one input, such as the files of a session: a directory of the corpus becomes one."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["from_directory", "is_bundle", "pack", "unpack", "write_files"]

_MAGIC: Final = b"FUZZBNDL"
_HEAD: Final = struct.Struct("<HI")


def is_bundle(data: bytes) -> bool:
    """Whether ``data`` was made by pack()."""
    return data.startswith(_MAGIC)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The members as one input."""
    parts = [_MAGIC]
    for name, content in members.items():
        raw = name.encode()
        parts += [_HEAD.pack(len(raw), len(content)), raw, content]
    return b"".join(parts)


def unpack(data: bytes) -> dict[str, bytes]:
    """What pack() was given."""
    members = {}
    at = len(_MAGIC)
    while at < len(data):
        name_bytes, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name = data[at : at + name_bytes].decode()
        at += name_bytes
        members[name] = data[at : at + size]
        at += size
    return members


def from_directory(directory: Path) -> bytes:
    """The files below a directory, by their paths relative to it."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return pack({str(path.relative_to(directory)): path.read_bytes() for path in files})


def write_files(data: bytes, directory: Path) -> None:
    """Make a new directory of a bundle."""
    directory.mkdir()
    for name, content in unpack(data).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
