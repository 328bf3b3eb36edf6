"""Kernels in QEMU guests: fetch, run, compare, dump and debug them.

``with insitu.lab.guest(kernel="6.1", cpus=2) as g: g.run(["uname", "-r"])`` boots a distribution kernel over
this machine's own files (read-only, with a tmpfs over them) and runs commands in it.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["Completed", "Guest", "Options", "guest"]

if TYPE_CHECKING:
    from insitu.lab.guests.guest import Guest as Guest
    from insitu.lab.guests.guest import guest as guest
    from insitu.lab.guests.machine import Options as Options
    from insitu.lab.guests.port_streams import Completed as Completed

# Public name -> module, imported on first use: `insitu lab --help` must not import sockets and subprocess.
_LAZY = {
    "Completed": "insitu.lab.guests.port_streams",
    "Guest": "insitu.lab.guests.guest",
    "Options": "insitu.lab.guests.machine",
    "guest": "insitu.lab.guests.guest",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'insitu.lab' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
