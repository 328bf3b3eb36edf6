"""Files of packets that other tools read: the classic pcap format, packets beginning with their IP header."""

from __future__ import annotations

import struct
from pathlib import Path

from insitu.errors import InsituError

__all__ = ["PacketFile"]

# The file's head: magic number of stamps in nanoseconds, version 2.4, zone, accuracy, longest packet, link type.
_HEAD = struct.Struct("<IHHiIII")
_MAGIC, _LINK_RAW, _LONGEST = 0xA1B23C4D, 101, 65535
_RECORD = struct.Struct("<IIII")  # seconds, nanoseconds, bytes that follow, bytes that the packet had


class PacketFile:
    """A file that is being written, packet by packet; what an earlier run left there is lost."""

    def __init__(self, path: str) -> None:
        """:raises InsituError: when it cannot be made."""
        try:
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - open for the whole run
        except OSError as error:
            raise InsituError(f"cannot write packets to {path}: {error.strerror}") from None
        self._file.write(_HEAD.pack(_MAGIC, 2, 4, 0, 0, _LONGEST, _LINK_RAW))

    def write(self, realtime_ns: int, length: int, data: bytes) -> None:
        """Add a packet of ``length`` bytes, the first of which are ``data``."""
        seconds, nanoseconds = divmod(realtime_ns, 10**9)
        self._file.write(_RECORD.pack(seconds & 0xFFFFFFFF, nanoseconds, len(data), max(length, len(data))) + data)
