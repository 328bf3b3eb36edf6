"""What program a process runs, as /proc has it."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from insitu.kernel import procfs
from insitu.syscalls.call import Executed

__all__ = ["with_program"]

_MOST_BYTES: Final = 4096
"""Of all arguments together."""


def with_program(event: Executed) -> Executed:
    """Returns the event with the file and arguments that its process has now, as far as they can be read."""
    with contextlib.suppress(OSError):
        event = event._replace(exe=os.fsencode(procfs.exe(event.pid)[1]))
    with contextlib.suppress(OSError):
        event = event._replace(arguments=procfs.arguments(event.pid, _MOST_BYTES))
    return event
