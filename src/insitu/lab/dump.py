"""The memory of a running guest as a vmcore that drgn and crash read."""

import time
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.machine import parse_size
from insitu.lab.guests.running import Running
from insitu.lab.kdump import name_system, put_in_order
from insitu.lab.qmp import Qmp

__all__ = ["dump_memory"]

_FORMATS: Final = {"elf": "elf", "kdump": "kdump-zlib"}
_DUMP_SECONDS: Final = 600.0


def dump_memory(guest: Running, output: Path, kind: str = "elf") -> int:
    """Write the guest's memory to ``output``; its size in bytes. The guest stands still meanwhile, then goes on.

    ``kind`` is elf (as large as the guest's memory) or kdump (compressed page by page); drgn and crash read both.
    Raises InsituError, and leaves no file, when QEMU cannot write it.
    """
    output = output.resolve()
    if not output.parent.is_dir():
        raise InsituError(f"no directory {output.parent}")
    partial = output.with_name(output.name + ".partial")
    ordered = output.with_name(output.name + ".ordered")
    try:
        with Qmp(guest.directory / "qmp2") as qmp:
            qmp.execute(
                "dump-guest-memory", paging=False, protocol=f"file:{partial}", detach=True, format=_FORMATS[kind]
            )
            deadline = time.monotonic() + _DUMP_SECONDS
            while (state := qmp.execute("query-dump"))["status"] == "active":
                if time.monotonic() > deadline:
                    raise InsituError(f"QEMU has not written the dump within {_DUMP_SECONDS:g} s")
                time.sleep(0.05)
        if state["status"] != "completed":
            needed = parse_size(guest.memory) >> 20
            raise InsituError(f"QEMU cannot write {output}", remedy=f"is there room for up to {needed} MB?")
        if kind == "kdump":
            put_in_order(partial, ordered)
            name_system(ordered, node=guest.name, release=guest.release)
            ordered.rename(output)
        else:
            partial.rename(output)
    except OSError as error:
        raise InsituError(f"cannot write {output}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
        ordered.unlink(missing_ok=True)
    return output.stat().st_size
