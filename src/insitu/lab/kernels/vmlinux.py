"""The ELF image inside a bzImage: what QEMU boots directly (PVH) and what gdb and drgn read symbols for.

Booting the ELF image skips the firmware's loader and the kernel's own decompression, which under software
emulation takes longer than the rest of the boot.
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


def is_elf(path: Path) -> bool:
    """Whether the file starts as an ELF file does."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def unpack_bzimage(image: Path) -> bytes | None:
    """The vmlinux inside a bzImage; None when its compression cannot be undone here.

    Raises InsituError when the file is not a bzImage.
    """
    data = image.read_bytes()
    if len(data) < 0x250 or data[_HEADER_MAGIC : _HEADER_MAGIC + 4] != b"HdrS":
        raise InsituError(f"{image} is neither a bzImage nor an ELF kernel")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    start = ((data[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = data[start : start + length]
    if len(payload) != length:
        raise InsituError(
            f"{image} is truncated: its header promises {length} bytes of kernel, {len(payload)} are there"
        )
    try:
        kernel = decompress(payload)
    except (lzma.LZMAError, zlib.error, ValueError) as error:
        raise InsituError(f"{image} is damaged: {error}") from None
    return kernel if kernel is not None and kernel.startswith(b"\x7fELF") else None


def decompress(payload: bytes) -> bytes | None:
    """What was compressed with xz, gzip, zstd or lz4 (the kernel's legacy format); None for anything else."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload, _MAX_KERNEL_BYTES)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload, _MAX_KERNEL_BYTES)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(payload)
    if payload.startswith(b"\x02\x21\x4c\x18") and shutil.which("lz4"):
        # The size behind the stream makes lz4 report an error although all of the kernel came out.
        return subprocess.run(["lz4", "-dc"], input=payload, capture_output=True, check=False).stdout
    return None


def _unzstd(payload: bytes) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
