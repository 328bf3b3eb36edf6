"""Text that the kernel writes about processes and events."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from fuzz.registry import Read
from insitu.kernel import procfs
from insitu.kernel.tracefs import parse_format

__all__ = ["proc", "tracefs_format"]


def proc(directory: Path) -> Read:
    """Files of /proc/PID, each of which is every kind of file in turn: a process chooses the names in them."""
    parsers: tuple[Callable[[], object], ...] = (
        lambda: list(procfs.areas(1)),
        lambda: procfs.status(1),
        lambda: procfs.start_time(1),
        lambda: procfs.run_delay_ns(1, 1),
        lambda: procfs.comm(1),
    )

    def read(data: bytes) -> None:
        procfs._bytes = lambda path: data
        for parse in parsers:
            with contextlib.suppress(OSError):
                parse()

    return read


def tracefs_format(directory: Path) -> Read:
    """The format file of an event."""

    def read(data: bytes) -> None:
        parse_format(data.decode(errors="replace"), "category:name")

    return read
