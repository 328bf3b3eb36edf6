"""A guest's state saved to a file and restored from it, by QEMU's migration (docs/devel/migration in QEMU).

Memory in shared files is left out (the capability x-ignore-shared of qapi/migration.json): only devices are saved.
"""

import shlex
import time
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.qmp import Qmp

__all__ = ["restore", "save"]

_CAPABILITIES: Final = [{"capability": "x-ignore-shared", "state": True}]
_UNFINISHED: Final = (None, "none", "setup", "active", "device")


def save(qmp: Qmp, file: Path, deadline: float) -> None:
    """Stop the guest and save its devices to ``file``. Raises InsituError at ``deadline`` (monotonic)."""
    qmp.execute("stop")
    qmp.execute("migrate-set-capabilities", capabilities=_CAPABILITIES)
    qmp.execute("migrate", uri=f"exec:cat >{shlex.quote(str(file))}")
    _wait(qmp, deadline, "save")


def restore(qmp: Qmp, file: Path, deadline: float) -> None:
    """Restore devices that ``save`` saved, and let the guest run. Raises InsituError as ``save`` does."""
    qmp.execute("migrate-set-capabilities", capabilities=_CAPABILITIES)
    qmp.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(file))}")
    _wait(qmp, deadline, "restore")
    qmp.execute("cont")


def _wait(qmp: Qmp, deadline: float, what: str) -> None:
    while (state := qmp.execute("query-migrate").get("status")) != "completed":
        if state not in _UNFINISHED:
            raise InsituError(f"QEMU cannot {what} the guest's state: migration {state}")
        if time.monotonic() > deadline:
            raise InsituError(f"QEMU did not {what} the guest's state in time")
        time.sleep(0.005)
