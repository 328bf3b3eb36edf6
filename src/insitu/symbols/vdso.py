"""The code that the kernel maps into every process (vdso(7)), read from a process of ours: it is the same in all."""

import mmap
import os
import struct
from functools import cache
from typing import TYPE_CHECKING, Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.elf import Elf
from insitu.symbols.module_names import VDSO

if TYPE_CHECKING:
    import subprocess

__all__ = ["VDSO", "read_vdso"]

_MAX_BYTES: Final = 1 << 20


@cache
def read_vdso(*, compat: bool = False) -> Elf | None:
    """The vdso, that of 32-bit processes if ``compat``.

    None if there is none (vdso=0 on the kernel's command line, no 32-bit programs) or it may not be read.
    """
    try:
        if not compat:
            return _vdso_of(os.getpid())
        with _paused_32_bit_program() as process:
            try:
                return _vdso_of(process.pid) if process.stdout and process.stdout.read(1) else None
            finally:
                process.kill()
    except (OSError, InsituError):
        return None


def _vdso_of(pid: int) -> Elf | None:
    area = next((area for area in procfs.areas(pid) if area.path == VDSO.encode()), None)
    if area is None:
        return None
    return Elf(procfs.memory(pid, area.start, min(area.end - area.start, _MAX_BYTES)), VDSO)


_LOAD_ADDRESS: Final = 0x0804_8000
_HEADERS_BYTES: Final = 52 + 32  # Elf32_Ehdr, Elf32_Phdr
_ENTRY: Final = _LOAD_ADDRESS + _HEADERS_BYTES
# write(1, entry, 1), for exec(2) returns to its parent before the vdso is mapped; then pause() for ever.
_CODE: Final = bytes.fromhex(
    f"b804000000 bb01000000 b9{_ENTRY.to_bytes(4, 'little').hex()} ba01000000 cd80 b81d000000 cd80 ebf7"
)


def _paused_32_bit_program() -> "subprocess.Popen[bytes]":
    """A process of a 32-bit x86 program that does nothing. Raises OSError where the kernel runs no such programs."""
    import subprocess

    if os.uname().machine != "x86_64":
        raise OSError("32-bit programs of this machine are not supported")
    size = _HEADERS_BYTES + len(_CODE)
    ehdr = struct.pack(
        "<4s5B7xHHIIIIIHHHHHH", b"\x7fELF", 1, 1, 1, 0, 0, 2, 3, 1, _ENTRY, 52, 0, 0, 52, 32, 1, 40, 0, 0
    )
    phdr = struct.pack("<8I", 1, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 5, mmap.PAGESIZE)
    program = os.memfd_create("insitu-vdso32", os.MFD_CLOEXEC)
    try:
        os.write(program, ehdr + phdr + _CODE)
        # The descriptor's number is the child's too.
        return subprocess.Popen([f"/proc/self/fd/{program}"], pass_fds=[program], stdout=subprocess.PIPE)
    finally:
        os.close(program)
