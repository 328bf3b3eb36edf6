"""What QEMU leaves undone in a compressed dump (kdump).

It writes makedumpfile's flattened format, which is for pipes: pieces of the dump in the order in which they were
made, each with its place. And its header names neither system nor release, so that libkdumpfile, through which drgn
reads such dumps, takes the names for garbage and does not look at the machine's either.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final

from insitu.errors import InsituError

__all__ = ["name_system", "put_in_order"]

# struct makedumpfile_header and makedumpfile_data_header, in QEMU's include/sysemu/dump.h; numbers are big-endian.
_SIGNATURE: Final = b"makedumpfile\0\0\0\0"
_HEADER_BYTES: Final = 4096
_PIECE: Final = struct.Struct(">qq")  # where it belongs, its size; -1, -1 ends
_END: Final = (-1, -1)
_CHUNK_BYTES: Final = 1 << 20
# struct disk_dump_header, in the same file: signature[8], header_version, struct new_utsname: names of 65 bytes.
_DUMP_SIGNATURE: Final = b"KDUMP   "
_NAMES_AT: Final = 12
_NAME_BYTES: Final = 65


def put_in_order(flattened: Path, output: Path) -> None:
    """Write the dump that ``flattened`` holds to ``output``. Raises InsituError when it is damaged."""
    with flattened.open("rb") as source, output.open("wb") as target:
        if source.read(_HEADER_BYTES)[: len(_SIGNATURE)] != _SIGNATURE:
            raise InsituError(f"{flattened} is not a dump in makedumpfile's flattened format")
        remaining = flattened.stat().st_size - _HEADER_BYTES
        while (piece := _next_piece(source)) != _END:
            place, size = piece
            remaining -= _PIECE.size + size
            if place < 0 or size < 0 or remaining < 0:
                raise InsituError(f"{flattened} is damaged or cut short at byte {source.tell()}")
            target.seek(place)
            for start in range(0, size, _CHUNK_BYTES):
                target.write(source.read(min(_CHUNK_BYTES, size - start)))


def _next_piece(source: BinaryIO) -> tuple[int, int]:
    header = source.read(_PIECE.size)
    if len(header) < _PIECE.size:
        raise InsituError(f"{source.name} is cut short: its end mark is missing")
    place, size = _PIECE.unpack(header)
    return place, size


def name_system(dump: Path, node: str, release: str) -> None:
    """Write what ``uname`` says into a dump's header where it is empty. Raises InsituError for another file."""
    with dump.open("r+b") as file:
        if file.read(len(_DUMP_SIGNATURE)) != _DUMP_SIGNATURE:
            raise InsituError(f"{dump} is not a compressed dump")
        for number, name in enumerate(("Linux", node, release, "unknown")):
            file.seek(_NAMES_AT + number * _NAME_BYTES)
            if file.read(1) == b"\0":
                file.seek(_NAMES_AT + number * _NAME_BYTES)
                file.write(name.encode()[: _NAME_BYTES - 1])
