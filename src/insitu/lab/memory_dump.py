"""The memory of a running guest as a vmcore that drgn and crash can open.

QEMU leaves two things undone in a compressed dump (kdump). It writes makedumpfile's flattened format, which is meant
for pipes: pieces of the dump in the order they were produced, each with its offset. And its header has neither system
name nor release, so that libkdumpfile, which drgn uses for such dumps, does not recognize the architecture either.
"""

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from insitu.errors import InsituError
from insitu.files import name_beside
from insitu.lab.guests.machine import parse_size
from insitu.lab.guests.running_guests import Running
from insitu.lab.qmp import Qmp

__all__ = ["dump_memory", "name_system", "unflatten"]

_FORMATS: Final = {"elf": "elf", "kdump": "kdump-zlib"}
_DUMP_SECONDS: Final = 600.0

# struct makedumpfile_header and makedumpfile_data_header, in QEMU's include/sysemu/dump.h; numbers are big-endian.
_SIGNATURE: Final = b"makedumpfile\0\0\0\0"
_HEADER_BYTES: Final = 4096
_PIECE: Final = struct.Struct(">qq")  # offset, size; -1, -1 ends the file
_END: Final = (-1, -1)
_CHUNK_BYTES: Final = 1 << 20
# struct disk_dump_header, in the same file: signature[8], header_version, struct new_utsname: names of 65 bytes.
_DUMP_SIGNATURE: Final = b"KDUMP   "
_NAMES_AT: Final = 12
_NAME_BYTES: Final = 65


def dump_memory(guest: Running, output: Path, kind: str = "elf") -> int:
    """Write the guest's memory to ``output`` and return its size in bytes. The guest is stopped meanwhile.

    ``kind`` is elf (as large as the guest's memory) or kdump (compressed page by page); drgn and crash read both.
    Raises InsituError, and leaves no file, if QEMU cannot write it.
    """
    if output.exists() and not output.is_file():
        raise InsituError(f"{output} is {'a directory' if output.is_dir() else 'no plain file'}", status=2)
    if not output.parent.is_dir():
        raise InsituError(f"no directory {output.parent}")
    # A link at the output is replaced, not followed.
    output = output.parent.resolve() / output.name
    with _private_file(output) as (dump, name):
        _dump(guest, dump, output, kind)
        if kind == "kdump":
            with _private_file(output) as (ordered, ordered_name):
                unflatten(dump, ordered)
                name_system(ordered, node=guest.name, release=guest.release)
                ordered_name.rename(output)
        else:
            name.rename(output)
    return output.stat().st_size


@contextlib.contextmanager
def _private_file(output: Path) -> Iterator[tuple[Path, Path]]:
    """A new file for this user alone beside ``output``: its path by descriptor, and its name, unless it is renamed.

    The name may lead elsewhere in a directory that another user may write to; the descriptor does not.
    """
    name = Path(name_beside(output))
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield Path(f"/proc/{os.getpid()}/fd/{fd}"), name
        finally:
            os.close(fd)
            name.unlink(missing_ok=True)
    except OSError as error:
        raise InsituError(f"cannot write {output}: {error.strerror}") from None


def _dump(guest: Running, dump: Path, output: Path, kind: str) -> None:
    """Have QEMU write its memory into the file ``dump``."""
    with Qmp(guest.directory / "qmp2") as qmp:
        qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{dump}", detach=True, format=_FORMATS[kind])
        deadline = time.monotonic() + _DUMP_SECONDS
        while (state := qmp.execute("query-dump"))["status"] == "active":
            if time.monotonic() > deadline:
                raise InsituError(f"QEMU has not written the dump within {_DUMP_SECONDS:g} s")
            time.sleep(0.05)
    if state["status"] != "completed":
        needed = parse_size(guest.memory) >> 20
        raise InsituError(f"QEMU cannot write {output}", remedy=f"is there room for up to {needed} MB?")


def unflatten(flattened: Path, output: Path) -> None:
    """Write the dump in ``flattened``, whose pieces are in any order, to ``output``. Raises InsituError."""
    with flattened.open("rb") as source, output.open("wb") as target:
        if source.read(_HEADER_BYTES)[: len(_SIGNATURE)] != _SIGNATURE:
            raise InsituError(f"{flattened} is not a dump in makedumpfile's flattened format")
        remaining = flattened.stat().st_size - _HEADER_BYTES
        while (piece := _next_piece(source)) != _END:
            offset, size = piece
            remaining -= _PIECE.size + size
            if offset < 0 or size < 0 or remaining < 0:
                raise InsituError(
                    f"{flattened} is damaged or truncated at byte {source.tell()}", remedy="have QEMU write it again"
                )
            target.seek(offset)
            for start in range(0, size, _CHUNK_BYTES):
                target.write(source.read(min(_CHUNK_BYTES, size - start)))


def _next_piece(source: BinaryIO) -> tuple[int, int]:
    header = source.read(_PIECE.size)
    if len(header) < _PIECE.size:
        raise InsituError(f"{source.name} is truncated: its end mark is missing")
    offset, size = _PIECE.unpack(header)
    return offset, size


def name_system(dump: Path, node: str, release: str) -> None:
    """Fill in the empty names of ``struct new_utsname`` in a kdump's header. Raises InsituError for another file."""
    with dump.open("r+b") as file:
        if file.read(len(_DUMP_SIGNATURE)) != _DUMP_SIGNATURE:
            raise InsituError(f"{dump} is not a compressed dump")
        for number, name in enumerate(("Linux", node, release, "unknown")):
            file.seek(_NAMES_AT + number * _NAME_BYTES)
            if file.read(1) == b"\0":
                file.seek(_NAMES_AT + number * _NAME_BYTES)
                file.write(name.encode()[: _NAME_BYTES - 1])
