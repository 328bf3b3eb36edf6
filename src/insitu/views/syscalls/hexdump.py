"""Data that calls read or write as hexadecimal digits: -e read=, -e write=, as strace(1) shows it."""

from __future__ import annotations

from collections.abc import Iterator

from insitu.syscalls.call import Call
from insitu.syscalls.decode import call_name

__all__ = ["dump_of"]

_READS = frozenset(("read", "pread64", "recv", "recvfrom"))
_WRITES = frozenset(("write", "pwrite64", "send", "sendto"))


def dump_of(call: Call, reads: frozenset[int] | None, writes: frozenset[int] | None) -> Iterator[str]:
    """Yields the lines of the call's data, as far as it was recorded; none for other descriptors (None: all)."""
    if (reads is not None and writes is not None and not reads | writes) or call.exit is None or call.exit.ret <= 0:
        return
    name = call_name(call.enter.abi, call.enter.nr)
    wanted = reads if name in _READS else writes if name in _WRITES else frozenset()
    fd = call.enter.args[0] & 0xFFFFFFFF
    if wanted is not None and fd not in wanted:
        return
    memory = call.exit.memory if name in _READS else call.enter.memory
    data = memory.read(call.enter.args[1], call.exit.ret) or b""
    for at in range(0, len(data), 16):
        line = data[at : at + 16]
        digits = "  ".join(line[half : half + 8].hex(" ").ljust(23) for half in (0, 8))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f" | {at:05x}  {digits}  {text:<16} |"
