"""vm.max_map_count, raised while a guarded program runs: without guard pages each block needs two mappings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["raised_map_count"]

_SETTING: Final = Path("/proc/sys/vm/max_map_count")


@contextlib.contextmanager
def raised_map_count(wanted: int | None) -> Iterator[None]:
    """Within the context the limit is at least ``wanted``; then it is what it was, unless somebody has changed it.

    Raises InsituError where that is not permitted. None: nothing is done.
    """
    before = int(_SETTING.read_text()) if wanted else 0
    if not wanted or wanted <= before:
        yield
        return
    try:
        _SETTING.write_text(f"{wanted}\n")
    except OSError as error:
        raise InsituError(
            f"--raise-map-count: cannot set vm.max_map_count: {error.strerror}",
            remedy=f"run as root, or: sysctl vm.max_map_count={wanted}",
        ) from None
    try:
        yield
    finally:
        if int(_SETTING.read_text()) == wanted:
            _SETTING.write_text(f"{before}\n")
