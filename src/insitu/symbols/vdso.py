"""The code that the kernel maps into every process (vdso(7)), read from our own: it is the same in all of them."""

import re
from pathlib import Path

from insitu.errors import InsituError
from insitu.symbols.elf import Elf

__all__ = ["VDSO", "read_vdso"]

VDSO = "[vdso]"
_MAX_BYTES = 1 << 20


def read_vdso() -> Elf | None:
    """The vdso of this process; None if it has none (vdso=0 on the kernel's command line) or may not read itself."""
    try:
        found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", Path("/proc/self/maps").read_text(), re.MULTILINE)
        if found is None:
            return None
        start, end = int(found[1], 16), int(found[2], 16)
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            return Elf(memory.read(min(end - start, _MAX_BYTES)), VDSO)
    except (OSError, InsituError):
        return None
