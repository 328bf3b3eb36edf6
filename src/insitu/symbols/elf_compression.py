"""Expands compressed sections (SHF_COMPRESSED), within bounds: a section may claim any size."""

import zlib

import numpy as np

from insitu.symbols.read_budget import MAX_SECTION_BYTES

__all__ = ["expanded"]

_ZLIB, _ZSTD = 1, 2  # ELFCOMPRESS_*

# zlib reaches 1:1000 on zeros, zstd any ratio; debug information stays below 1:20.
_MAX_RATIO = 64
_SMALL_BYTES = 1 << 20


def expanded(data: bytes, chdr: np.dtype[np.void]) -> bytes | None:
    """The contents of a compressed section; empty if header or contents are corrupt, None if they are too large."""
    if len(data) < chdr.itemsize:
        return b""
    header = np.frombuffer(data, chdr, 1)[0]
    kind, size = int(header["type"]), int(header["size"])
    packed = data[chdr.itemsize :]
    if size > min(MAX_SECTION_BYTES, max(_MAX_RATIO * len(packed), _SMALL_BYTES)):
        return None
    try:
        if kind == _ZLIB:
            return zlib.decompressobj().decompress(packed, size)
        if kind == _ZSTD:
            return _unzstd(packed, size)
    except zlib.error:
        pass
    return b""


def _unzstd(packed: bytes, size: int) -> bytes:
    import zstandard

    try:
        # The window is memory that the data asks for: 8 MB are what decoders must take, and zstd -19 uses.
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
            return reader.read(size)
    except zstandard.ZstdError:
        return b""
