"""The ELF image inside a bzImage, which QEMU can boot directly (PVH).

That skips the firmware's loader and the kernel's own decompression, which takes longer than the rest of the boot
under software emulation.
"""

import lzma
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["decompress", "is_elf", "unpack_bzimage"]

# Offsets in the setup header: Documentation/arch/x86/boot.rst.
_SETUP_SECTORS: Final = 0x1F1
_HEADER_MAGIC: Final = 0x202
_PAYLOAD: Final = 0x248  # payload_offset, payload_length: two u32
_MAX_KERNEL_BYTES: Final = 1 << 30
_PIECE_BYTES: Final = 1 << 12  # of compressed data: it may become 32,000 times as much


def is_elf(path: Path) -> bool:
    """Whether the file has an ELF file's magic."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def unpack_bzimage(image: Path) -> bytes | None:
    """The vmlinux inside a bzImage; None if its compression is not supported here.

    Raises InsituError if the file is not a bzImage, or is damaged.
    """
    data = image.read_bytes()
    if len(data) < 0x250 or data[_HEADER_MAGIC : _HEADER_MAGIC + 4] != b"HdrS":
        raise InsituError(f"{image} is neither a bzImage nor an ELF kernel")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    start = ((data[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = data[start : start + length]
    if len(payload) != length:
        raise InsituError(
            f"{image} is truncated: its header says {length} bytes of compressed kernel, the file has {len(payload)}"
        )
    try:
        kernel = decompress(payload)
    except (lzma.LZMAError, zlib.error, ValueError) as error:
        raise InsituError(f"{image} is damaged: {error}") from None
    return kernel if kernel is not None and kernel.startswith(b"\x7fELF") else None


def decompress(payload: bytes) -> bytes | None:
    """Decompress xz, gzip, zstd or lz4 (the legacy format), at most 1 GiB; None for anything else.

    Raises LZMAError, zlib.error or ValueError for damaged data.
    """
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload, _MAX_KERNEL_BYTES)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload, _MAX_KERNEL_BYTES)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(payload)
    if payload.startswith(b"\x02\x21\x4c\x18") and shutil.which("lz4"):
        # lz4 reports an error because the uncompressed size follows the stream, but its output is complete.
        limited = ["sh", "-c", f"lz4 -dc | head -c {_MAX_KERNEL_BYTES}"]
        return subprocess.run(limited, input=payload, capture_output=True, check=False).stdout
    return None


def _unzstd(payload: bytes) -> bytes:
    """The first frame's content: the kernel's build appends the uncompressed size, which is not a frame."""
    import zstandard

    stream = zstandard.ZstdDecompressor().decompressobj()
    parts, left = [], _MAX_KERNEL_BYTES
    try:
        # Piece by piece: all that comes out of a piece is in memory at once.
        for at in range(0, len(payload), _PIECE_BYTES):
            parts.append(stream.decompress(payload[at : at + _PIECE_BYTES])[:left])
            left -= len(parts[-1])
            if stream.eof or not left:
                break
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    return b"".join(parts)
